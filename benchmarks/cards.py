"""Writes the card of every run in docs/results, but those of many seeds: python benchmarks/cards.py.

A checkpoint that stands here is loaded for its vocabulary and its samples.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from modeling_seqvae import SeqVAE
from modeling_seqvae.training.card import card
from modeling_seqvae.training.recipe import Recipe
from modeling_seqvae.training.run_directory import require_history

ROOT = Path(__file__).resolve().parents[1]
CARDS = ROOT / "model_cards"
RESULTS = ROOT / "docs" / "results"
NO_RESULTS = (
    "arxiv-10k-unigram",
    "demo-settings",
    "demo-unigram",
    "ptb-fast",
    "ptb-10k-fast",
    "yelp_sentiment-20k-unigram",
    "yelp_sentiment-fast",
)  # what was tried on the way, and where it led
SAMPLES = 5


def cards() -> Iterator[tuple[Path, str]]:
    """Where each card stands, CORPUS-METHOD/README.md, and what it says."""
    for recipe in sorted(RESULTS.rglob("recipe.yaml")):
        run = recipe.parent
        corpus, method, *variant = run.relative_to(RESULTS).parts
        if corpus not in NO_RESULTS and not any(part.startswith("seed") for part in variant):
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
        note="" if vae else unshared(run, recipe),
    )
    return f"{written}\n"


def unshared(run: Path, recipe: Recipe) -> str:
    """Why there is nothing to load."""
    results = run.relative_to(ROOT).as_posix()
    return (
        f"**The weights are not shared:** they are made of texts that are not ours. `{results}` has the recipe, the "
        f"history and the figures; `seqvae train --method {recipe.method} --corpus {recipe.corpus.name}` with that "
        "recipe makes such a checkpoint."
    )


if __name__ == "__main__":
    for path, text in cards():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        print(path.relative_to(CARDS.parent))
