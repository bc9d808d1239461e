"""Writes the card of every run in docs/results, but those of many seeds.

    python benchmarks/cards.py
    python benchmarks/cards.py --weights RUN sentences/unigram_pretraining    # first keep weights, in half precision

A checkpoint that stands here is loaded for its vocabulary and its samples.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from modeling_seqvae import SeqVAE
from modeling_seqvae.training.card import card
from modeling_seqvae.training.checkpoint import load_best
from modeling_seqvae.training.recipe import Recipe
from modeling_seqvae.training.run_directory import RECIPE, require_history

ROOT = Path(__file__).resolve().parents[1]
CARDS = ROOT / "model_cards"
RESULTS = ROOT / "docs" / "results"
SHOWN = ("demo", "ptb", "sentences", "yahoo", "yelp_sentiment")  # the rest is what was tried on the way
SAMPLES = 5
CREDITS = {
    "sentences": "Its texts are everyday English of [Tatoeba](https://tatoeba.org) (CC BY 2.0, by its contributors, in "
    "the selection of [manythings.org/anki](https://www.manythings.org/anki)) and prompts of [Common "
    "Voice](https://commonvoice.mozilla.org) (CC0). With this credit the weights may be shared.",
}
"""Whose texts the weights were made of."""
PATH = ("I'd like a cup of coffee, please.", "The train leaves at half past nine.")
TEXTS = (
    "I lost my keys this morning.",
    "The museum is closed on Mondays.",
    "Can you speak French?",
    "My brother is a doctor in Boston.",
    "He is buried in the local cemetery.",
)
"""Sentences that the card of a model of real text shows what it makes of."""


def cards() -> Iterator[tuple[Path, str]]:
    """Where each card stands, CORPUS-METHOD/README.md, and what it says."""
    for recipe in sorted(RESULTS.rglob("recipe.yaml")):
        run = recipe.parent
        corpus, method, *variant = run.relative_to(RESULTS).parts
        if corpus in SHOWN and not any(part.startswith("seed") for part in variant):
            folder = CARDS / f"{corpus}-{method}".replace("_", "-")
            yield folder / "README.md", card_of(run, folder)


def card_of(run: Path, checkpoint: Path) -> str:
    """The card of a committed run."""
    history = require_history(run)
    evaluation = run / "evaluation.json"
    recipe = Recipe.load(run / "recipe.yaml")
    vae = SeqVAE.from_pretrained(checkpoint) if (checkpoint / "config.json").is_file() else None
    written = card(
        recipe,
        recipe.best_of(history),
        config=vae.model.config if vae else None,
        epochs=len(history),
        evaluation=json.loads(evaluation.read_text("utf-8")) if evaluation.is_file() else None,
        samples=vae.sample(SAMPLES, seed=0) if vae else (),
        source=checkpoint.relative_to(CARDS.parent).as_posix() if vae else "path/to/this/checkpoint",
        note=note_of(run, recipe, vae),
    )
    return f"{written}\n"


def note_of(run: Path, recipe: Recipe, vae: SeqVAE | None) -> str:
    """What stands below the description."""
    if vae is None:
        return unshared(run, recipe)
    return shown(vae, CREDITS[recipe.corpus.name]) if recipe.corpus.name in CREDITS else ""


def shown(vae: SeqVAE, credit: str) -> str:
    """Whose texts it was trained on, and what it makes of some sentences."""
    path = "\n".join(f"    {text}" for text in vae.interpolate(*PATH, steps=6))
    written = "\n".join(f"| {text} | {made} |" for text, made in zip(TEXTS, vae.reconstruct(list(TEXTS)), strict=True))
    return (
        f"{credit}\n\n"
        f"Between *{PATH[0]}* and *{PATH[1]}* it writes, the ends being reconstructions:\n\n{path}\n\n"
        "Its latent holds some nats of the tens that a sentence has: what kind of sentence it is, not its words.\n\n"
        f"| read | written |\n|---|---|\n{written}"
    )


def keep_weights(run: Path, name: Path) -> None:
    """Copy the best/ of a run, its weights in half precision, beside the recipe that docs/results has of it."""
    folder = CARDS / name.as_posix().replace("/", "-").replace("_", "-")
    vae = load_best(str(run))
    vae.model.half()
    vae.save_pretrained(folder)
    shutil.copy(RESULTS / name / RECIPE, folder / RECIPE)


def unshared(run: Path, recipe: Recipe) -> str:
    """Why there is nothing to load."""
    results = run.relative_to(ROOT).as_posix()
    return (
        f"**The weights are not shared:** they are made of texts that are not ours. `{results}` has the recipe, the "
        f"history and the figures; `seqvae train --method {recipe.method} --corpus {recipe.corpus.name}` with that "
        "recipe makes such a checkpoint."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs=2, type=Path, metavar=("RUN", "CORPUS/METHOD"))
    arguments = parser.parse_args()
    if arguments.weights:
        keep_weights(*arguments.weights)
    for path, text in cards():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        print(path.relative_to(CARDS.parent))
