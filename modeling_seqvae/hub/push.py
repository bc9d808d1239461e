"""Pushing a run to the hub: which files, without paths of this machine; once, or for every new best in training."""

import json
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import Any, Self

from ..checksums import CHECKSUMS
from ..configuration_seqvae import SeqVAEConfig
from ..data.corpus_spec import CorpusFiles
from ..data.files import dump_yaml, json_lines, read_json
from ..data.subwords import BPE, GIVEN, WORDS, hub_name
from ..evaluation.drawing import curves
from ..sharing import SharingError, code_files, prepare_repository, push_files, sentence_files, with_auto_map
from ..text import SeqVAE
from ..training.callbacks import Callback
from ..training.card import card, on_the_hub
from ..training.checkpoint import best_checkpoint, require_undamaged
from ..training.evaluations import of_its_test_set, of_these_weights
from ..training.recipe import Recipe
from ..training.run_directory import HISTORY, RECIPE, require_history
from ..training.specs import TrainingSpec
from ..training.trainer import SeqVAETrainer

# The files

WATCHED_BY = ("trackers", "tracker_project", "tracker_options")
"""Fields of `training` that do not change a run, and may hold folders and accounts."""

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
    require_run(run)
    best = checkpoint or Path(best_checkpoint(str(run)))
    require_undamaged(best)
    recipe, history = Recipe.load(run / RECIPE), require_history(run)
    evaluation, notes = _evaluation(run / "evaluation.json", best, recipe)
    files = checkpoint_files(best, code)
    files[RECIPE] = dump_yaml(without_local_paths(recipe).model_dump(mode="json")).encode()
    files[HISTORY] = json_lines(history).encode()
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


def require_run(run: Path) -> Path:
    """The recipe of a run's directory. Raises FileNotFoundError for what is none."""
    alone = (run / "config.json").is_file() and not (run / HISTORY).is_file()  # a checkpoint with its recipe
    missing = HISTORY if alone and (run / RECIPE).is_file() else RECIPE
    if not (run / missing).is_file():
        raise FileNotFoundError(
            f"{run} is not a run's directory: it holds no {missing}. (A checkpoint alone is shared from Python, by "
            "SeqVAE.from_pretrained(...).push_to_hub.)"
        )
    return run / RECIPE


def without_local_paths(recipe: Recipe) -> Recipe:
    """The recipe without the folders of the machine it ran on: of files elsewhere than in a data folder, the names.

    Nor does it say who watched the run, which may be folders and accounts.
    """
    corpus = recipe.corpus
    if corpus.files is not None:
        names = {split: name and _without_folder(name) for split, name in corpus.files.model_dump().items()}
        corpus = corpus.model_copy(update={"files": CorpusFiles(**names)})
    if corpus.tokenizer not in (WORDS, BPE) and not hub_name(corpus.tokenizer):
        corpus = corpus.model_copy(update={"tokenizer": GIVEN})  # it is among the files
    source = recipe.encoder_from if recipe.encoder_from and on_the_hub(recipe.encoder_from) else None
    unwatched = {name: TrainingSpec.model_fields[name].default for name in WATCHED_BY}
    stage = recipe.pretraining
    if stage is not None:
        alone = {name: value for name, value in stage.training.items() if name not in WATCHED_BY}
        stage = stage.model_copy(update={"training": alone})
    return recipe.model_copy(
        update={
            "data_dir": None,
            "corpus": corpus,
            "encoder_from": source,
            "imports": [],
            "training": recipe.training.model_copy(update=unwatched),
            "pretraining": stage,
        }
    )


def _without_folder(path: str) -> str:
    parts = PureWindowsPath(path)  # which knows both kinds of slash
    return parts.name if parts.anchor or path.startswith("~") or ".." in parts.parts else path


def checkpoint_files(best: Path, code: bool) -> dict[str, bytes | Path]:
    """Weights, configurations and tokenizer in a checkpoint's folder, with the code that loads them if asked for."""
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


# Pushing


def push_run(
    run: str | Path,
    repo_id: str,
    *,
    code: bool = True,
    samples: int = 5,
    licence: str | None = None,
    sentence_features: str | None = None,
    **options: Any,
) -> str:
    """Share a run's best checkpoint, card, recipe, history, curves and evaluation in one commit; its URL.

    `sentence_features` lets sentence-transformers load it as well, for these features. Other `options` are those of
    push_files: private, revision, create_pr, update, token. Raises what contents and push_files raise.
    """
    shared = contents(run, repo_id, code=code, samples=samples, licence=licence, sentence_features=sentence_features)
    return push_files(shared.files, repo_id, commit_message=f"Share {shared.title}", **options)


class PushOnBest(Callback):
    """Shares a run in the background each time it has become better; `with` waits for the last commit at the end.

        with PushOnBest("user/name", private=True) as push:
            run.train(recipe, output_dir, callbacks=[push])

    The repository is made, or refused, at once; `update` allows one that holds files, such as the same run's before it
    was interrupted. What fails later is a warning and stops no training. While a commit is under way the newest best
    waits and older ones are passed over. One process constructs it. Raises what prepare_repository raises.
    """

    def __init__(self, repo_id: str, *, private: bool = False, update: bool = False, token: str | None = None):
        prepare_repository(repo_id, private=private, update=update, token=token)
        self.repo_id = repo_id
        self.token = token
        self._worker = ThreadPoolExecutor(1, "push")
        self._waiting: Future[None] | None = None
        self._newest: Contents | None = None  # of the best that this object was told of last
        self._pushed: Contents | None = None

    @property
    def shared(self) -> bool:
        """Whether the newest best that this object was told of is on the hub."""
        return self._newest is not None and self._pushed is self._newest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self._worker.shutdown()

    def on_best(self, trainer: SeqVAETrainer, record: dict[str, Any]) -> None:
        self.share(trainer.output_dir)

    def share(self, run: Path) -> None:
        """Share the best/ and the history of this moment, without samples, which would cost training time."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._newest = None
        with _errors_as_warnings(), ExitStack() as made:
            copy = Path(made.enter_context(TemporaryDirectory()))  # the next best/ may come before this one is shared
            best = Path(shutil.copytree(run / "best", copy / "best"))
            shared = contents(run, self.repo_id, checkpoint=best, samples=0)
            self._newest, kept = shared, made.pop_all()
            self._waiting = self._worker.submit(self._push, shared)
            self._waiting.add_done_callback(lambda done: kept.close())  # shared or passed over

    def _push(self, shared: Contents) -> None:
        with _errors_as_warnings():
            message = f"Share {shared.title}, so far"
            push_files(shared.files, self.repo_id, commit_message=message, update=True, token=self.token)
            self._pushed = shared


@contextmanager
def _errors_as_warnings() -> Iterator[None]:
    """Whatever goes wrong, as a warning: what the disk, the run's files or the hub refuse, and what nobody foresaw."""
    try:
        yield
    except Exception as error:
        told = str(error) if isinstance(error, SharingError | OSError | ValueError) else repr(error)
        warnings.warn(f"not shared: {told}. Training goes on, and the next best is shared again", stacklevel=2)
