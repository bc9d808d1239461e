"""What is shared of a run: its best checkpoint, what is known about it, and nothing of the place it was trained in."""

import json
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from ..configuration_seqvae import SeqVAEConfig
from ..data.corpora import CorpusFiles
from ..data.files import CHECKSUMS, dump_yaml, read_json
from ..sharing import code_files, with_auto_map
from ..text import SeqVAE
from ..training.card import card, on_the_hub
from ..training.recipe import Recipe
from ..training.run import best_checkpoint
from ..training.run_directory import HISTORY, RECIPE, of_its_test_set, of_these_weights, require_history
from .curves import curves
from .sentence_files import sentence_files

CHECKPOINT_FILES = ("*.safetensors", "*.json")
"""Of a checkpoint's folder: weights, configurations and tokenizer. The rest is written anew, or not ours to share."""


@dataclass(frozen=True)
class Contents:
    """Files to share, by name; their title; and what is worth telling of them."""

    files: dict[str, bytes | Path]
    title: str
    notes: list[str]

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: content.stat().st_size if isinstance(content, Path) else len(content)
            for name, content in sorted(self.files.items())
        }


def contents(
    run: str | Path,
    repo_id: str,
    *,
    checkpoint: Path | None = None,
    code: bool = True,
    samples: int = 5,
    licence: str | None = None,
    sentence_features: str | None = None,
) -> Contents:
    """All that is shared of a run's directory as `repo_id`; `checkpoint` is a copy of its best/, if that may change.

    The card shows `samples` sentences of the model. `sentence_features` adds what sentence-transformers needs to load
    the model, as a giver of these features. Raises FileNotFoundError for what is no run or has no checkpoint, and
    ValueError for a run with a damaged file and for features that the model does not have.
    """
    run = Path(run)
    if not (run / RECIPE).is_file():
        raise FileNotFoundError(
            f"{run} is not a run's directory: it holds no {RECIPE}. (A checkpoint alone is shared from Python, by "
            "SeqVAE.from_pretrained(...).push_to_hub.)"
        )
    best = checkpoint or Path(best_checkpoint(str(run)))
    recipe, history = Recipe.load(run / RECIPE), require_history(run)
    evaluation, notes = _evaluation(run / "evaluation.json", best, recipe)
    files = _checkpoint_files(best, code)
    files[RECIPE] = dump_yaml(without_places(recipe).model_dump(mode="json")).encode()
    files[HISTORY] = "".join(json.dumps(record) + "\n" for record in history).encode()
    if evaluation:
        files["evaluation.json"] = _as_json(evaluation)
    try:
        files["curves.png"] = curves(history, recipe.title)
    except ModuleNotFoundError as error:
        notes.append(f"curves.png is left out: {error}")
    vae = SeqVAE.from_pretrained(best) if samples or sentence_features else None
    if vae and sentence_features:
        vae.encode([], sentence_features)  # refuses what the model does not have
        files |= {name: _as_json(content) for name, content in sentence_files(sentence_features).items()}
    written = card(
        recipe,
        recipe.best_of(history),
        config=SeqVAEConfig.from_pretrained(best),
        epochs=len(history),
        evaluation=evaluation,
        samples=vae.sample(samples, seed=0) if vae and samples else (),
        source=repo_id,
        code=code,
        curves="curves.png" in files,
        licence=licence,
    )
    files["README.md"] = str(written).encode()
    return Contents(files, f"{recipe.title} on {recipe.corpus.name}", notes)


def without_places(recipe: Recipe) -> Recipe:
    """The recipe without the folders of the machine it ran on: of files elsewhere than in a data folder, the names."""
    corpus = recipe.corpus
    if corpus.files is not None:
        names = {split: name and _without_place(name) for split, name in corpus.files.model_dump().items()}
        corpus = corpus.model_copy(update={"files": CorpusFiles(**names)})
    source = recipe.encoder_from if recipe.encoder_from and on_the_hub(recipe.encoder_from) else None
    return recipe.model_copy(update={"data_dir": None, "corpus": corpus, "encoder_from": source, "imports": []})


def _without_place(path: str) -> str:
    parts = PureWindowsPath(path)  # which knows both kinds of slash
    return parts.name if parts.anchor or path.startswith("~") or ".." in parts.parts else path


def _checkpoint_files(best: Path, code: bool) -> dict[str, bytes | Path]:
    found: dict[str, bytes | Path] = {path.name: path for pattern in CHECKPOINT_FILES for path in best.glob(pattern)}
    found.pop(CHECKSUMS, None)  # of this folder: what is shared differs
    if code:
        found |= {name: text.encode() for name, text in code_files(SeqVAEConfig.from_pretrained(best)).items()}
        found["config.json"] = with_auto_map(best / "config.json").encode()
    return found


def _as_json(content: Any) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"


def _evaluation(path: Path, best: Path, recipe: Recipe) -> tuple[dict[str, Any] | None, list[str]]:
    """A run's evaluation on its test set, unless it is of an earlier checkpoint; and what to tell of it."""
    if recipe.corpus.in_memory and not path.is_file():
        return None, ["there is no evaluation.json: the run's data were in memory, without a test set"]
    if not path.is_file():
        return None, ["evaluation.json is left out: the run has not been evaluated (seqvae evaluate RUN)"]
    report = read_json(path, numbers=("bound", "nll_gap_se"))
    if not of_these_weights(report, best):
        return None, ["evaluation.json is left out: it is of an earlier checkpoint; evaluate the run again"]
    if not of_its_test_set(report, recipe):
        return None, [
            "evaluation.json is left out: it is not of the whole test set of the run's corpus; evaluate the run"
        ]
    return report, []
