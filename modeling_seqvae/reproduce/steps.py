"""The steps behind tables and figures: trainings, and measurements of trained models.

The folder of a step's files is a function of what the step is. So a step that another target has finished is found and
skipped, and an interrupted one is resumed.
"""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

from ..data.corpus_spec import CorpusSpec, checksum_of_files
from ..data.files import read_json, write_json
from ..training.checkpoint import evaluate_checkpoint
from ..training.evaluations import keep_evaluation, of_these_weights, weights_hash
from ..training.recipe import Recipe
from ..training.run import FILES, FINISHED, train
from ..training.run_directory import HISTORY, RECIPE, holds_run, read_history, warn_of_changed_code

LIKELIHOOD = ("nll", "nll_gap_se", "nll_sentences", "nll_samples", "ppl", "sentences")
NLL_SAMPLES = 500
"""Importance samples of each likelihood, as in the paper."""
REPORT = ("bound", "rec", "kl", "mi", "au", *LIKELIHOOD)
"""The numbers that tables and figures need of an evaluation."""


class Step(Protocol):
    """A piece of work, done in a process of its own. Folders are relative to the output directory."""

    @property
    def title(self) -> str:
        """What it is, for people."""

    @property
    def folder(self) -> Path:
        """Where it leaves its files: CORPUS/METHOD/SETTINGS/seedN."""

    @property
    def key(self) -> str:
        """What tells the step from others: the path of what it leaves. Steps of one key are one step."""

    @property
    def needs(self) -> Sequence["Step"]:
        """The steps that have to be done before."""

    def done(self, output_dir: Path) -> bool:
        """Whether it has been done. Raises ValueError where its folder holds something else."""

    def state(self, output_dir: Path) -> str:
        """What is left to do of a step that is not done, in words."""

    def command(self, output_dir: Path) -> str | None:
        """The command line that does it; None where it has none of its own."""

    def run(self, output_dir: Path) -> None:
        """Do it, or go on where it was interrupted."""

    def read(self, output_dir: Path) -> Any:
        """What it found, or None where it is not (yet) there."""


@dataclass(frozen=True, eq=False)
class Training:
    """A recipe's run. `read` gives its history so far, one record an epoch, as in history.jsonl.

    `options` are what `seqvae train` is told to make the recipe.
    """

    recipe: Recipe
    folder: Path
    data_dir: Path | None = None
    options: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.recipe.title}, seed {self.recipe.training.seed}"

    @property
    def key(self) -> str:
        return str(self.folder)

    @property
    def needs(self) -> Sequence[Step]:
        return ()

    def done(self, output_dir: Path) -> bool:
        run = output_dir / self.folder
        if not holds_run(run, self.recipe, resume=True):
            return False
        warn_of_changed_code(run)
        end = self.at_the_end(output_dir)
        _require_same_texts(run, self.recipe.corpus, self.data_dir, end.get(FILES))
        if end and not read_history(run):
            raise ValueError(f"{run / HISTORY} has no record of a run that has ended: put back a copy of it")
        return bool(end)

    def state(self, output_dir: Path) -> str:
        epochs = len(self.read(output_dir) or ())
        return f"to resume after epoch {epochs}" if epochs else "to train"

    def command(self, output_dir: Path) -> str | None:
        run = str(output_dir / self.folder)
        return shlex.join(["seqvae", "train", *self.options, *place(self.data_dir), "--output-dir", run, "--resume"])

    def run(self, output_dir: Path) -> None:
        train(self.recipe, output_dir / self.folder, self.data_dir, resume=True)

    def read(self, output_dir: Path) -> list[dict[str, Any]] | None:
        return read_history(output_dir / self.folder) or None

    def ended(self, output_dir: Path) -> bool:
        """Whether the run has come to its end, as far as its files say."""
        return bool(self.at_the_end(output_dir))

    def at_the_end(self, output_dir: Path) -> dict[str, Any]:
        """What a run that has come to its end says of itself, `documents` by split; nothing before."""
        path = output_dir / self.folder / FINISHED
        return read_json(path, ["documents"]) if path.is_file() else {}


@dataclass(frozen=True)
class Inputs:
    """What a measurement may read, and where it may keep what an interrupted call goes on from."""

    runs: tuple[Path, ...]  # directories of its trainings, in order
    folder: Path  # its own
    data_dir: Path | None  # of the corpora's files


@dataclass(frozen=True, eq=False)
class Measurement:
    """A function's figures, kept as FOLDER/FILE with the settings and the weights they were made with.

    `function(inputs, **settings)` returns what JSON can hold. It is a function of a module, since another process calls
    it. With other settings or other weights it is measured anew. Without `trainings` it may train something itself.
    """

    title: str
    folder: Path
    file: str
    function: Callable[..., dict[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    trainings: tuple[Training, ...] = ()
    data_dir: Path | None = None

    @property
    def key(self) -> str:
        return str(self.folder / self.file)

    @property
    def needs(self) -> Sequence[Step]:
        return self.trainings

    def done(self, output_dir: Path) -> bool:
        return self.read(output_dir) is not None

    def state(self, output_dir: Path) -> str:
        return "to measure"

    def command(self, output_dir: Path) -> str | None:
        return None

    def run(self, output_dir: Path) -> None:
        runs = tuple(output_dir / training.folder for training in self.trainings)
        folder = output_dir / self.folder
        folder.mkdir(parents=True, exist_ok=True)
        figures = self.function(Inputs(runs, folder, self.data_dir), **self.settings)
        made_with = {"settings": dict(self.settings), "weights": self._weights(output_dir)}
        write_json(folder / self.file, figures | made_with)

    def read(self, output_dir: Path) -> dict[str, Any] | None:
        if not all(training.ended(output_dir) for training in self.trainings):
            return None
        found = self._found(output_dir / self.folder) or {}
        pairs = zip_longest(self._weights(output_dir), found.get("weights", []), fillvalue="none")
        return found if found and all(now in (None, then) for now, then in pairs) else None

    def _found(self, folder: Path) -> dict[str, Any] | None:
        path = folder / self.file
        if not path.is_file():
            return None
        found = read_json(path)
        return found if found.get("settings") == json.loads(json.dumps(dict(self.settings))) else None

    def _weights(self, output_dir: Path) -> list[str | None]:
        return [weights_hash(output_dir / training.folder / "best") for training in self.trainings]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `seqvae evaluate` measures of a run's best model on the test set, in the file that it would choose.

    The figures may be those of `seqvae evaluate` itself; they are kept if they are of these settings and weights.
    """

    training: Training
    nll_sentences: int | None = None  # None: all
    limit: int | None = None  # the first sentences of the test set; None: all
    shuffled: bool = False

    @property
    def title(self) -> str:
        return f"{self.training.title}: evaluation{', shuffled' if self.shuffled else ''}"

    @property
    def folder(self) -> Path:
        return self.training.folder

    @property
    def key(self) -> str:
        limits = {"first": self.limit, "nll": self.nll_sentences}
        parts = [f"{name}{count}" for name, count in limits.items() if count is not None]
        return str(self.folder / "-".join(["evaluation", *parts, *(["shuffled"] if self.shuffled else [])]))

    @property
    def needs(self) -> Sequence[Step]:
        return (self.training,)

    def done(self, output_dir: Path) -> bool:
        ended = self.training.ended(output_dir)  # a run that goes on gets other weights
        return ended and self._file(output_dir / self.folder) is not None

    def state(self, output_dir: Path) -> str:
        return "to measure"

    def command(self, output_dir: Path) -> str | None:
        words = ["seqvae", "evaluate", str(output_dir / self.folder), *place(self.training.data_dir)]
        words += [] if self.limit is None else ["--limit", f"test={self.limit}"]
        words += [] if self.nll_sentences is None else ["--nll-sentences", str(self.nll_sentences)]
        return shlex.join(words + (["--shuffle"] if self.shuffled else []))

    def run(self, output_dir: Path) -> None:
        run = output_dir / self.folder
        report = evaluate_checkpoint(
            str(run),
            data_dir=self.training.data_dir,
            limits=None if self.limit is None else {"test": self.limit},
            nll_samples=NLL_SAMPLES,
            nll_sentences=self.nll_sentences,
            shuffle_words=self.shuffled,
        )
        if keep_evaluation(run, report) is None:
            raise FileNotFoundError(f"{run} holds no {RECIPE}: its training has not begun")

    def read(self, output_dir: Path) -> dict[str, Any] | None:
        path = self._file(output_dir / self.folder) if self.training.ended(output_dir) else None
        return read_json(path, ["title"], REPORT) if path else None

    def _file(self, run: Path) -> Path | None:
        """Where these figures stand, of the weights that are there: in float32 if they were measured in several."""
        found = [(path, read_json(path)) for path in sorted(run.glob("evaluation*.json"))]
        usable = [
            (report.get("precision", "no") != "no", path)
            for path, report in found
            if self._is_of_these_settings(report) and of_these_weights(report, run / "best")
        ]
        return min(usable)[1] if usable else None

    def _is_of_these_settings(self, report: Mapping[str, Any]) -> bool:
        if "nll_gap" not in report:  # its NLL is of the first sentences alone
            return False
        sentences = report.get("sentences", 0)
        exact = self.training.recipe.model.get("latent_size") == 0  # a language model's likelihood
        asked = {
            "corpus": self.training.recipe.corpus.name,
            "split": "test",
            "limit": self.limit,
            "shuffled": self.shuffled,
            "seed": 0,
            "nll_sentences": min(self.nll_sentences or sentences, sentences),
            "nll_samples": 1 if exact else NLL_SAMPLES,
        }
        return report.get("own", True) and all(report.get(name) == value for name, value in asked.items())


def place(data_dir: Path | None) -> list[str]:
    """The option that says where the corpora's files are."""
    return [] if data_dir is None else ["--data-dir", str(data_dir)]


def _require_same_texts(run: Path, corpus: CorpusSpec, data_dir: Path | None, files: str | None) -> None:
    """Refuses a run on other texts: other files, or the hub's sample where files are meant, or the other way round.

    A run without a checksum of its `files` is taken as it is, and so is one whose files are no longer there.
    """
    kept = Recipe.load(run / RECIPE).data_dir
    if files is not None and checksum_of_files(corpus, data_dir or kept) not in (None, files):
        raise ValueError(
            f"{run} was trained on other texts: the files of {corpus.name} are not what they were then. Put them back, "
            "or choose another --output-dir"
        )
    if corpus.files is None or corpus.hub is None or (kept is None) == (data_dir is None):
        return
    if kept is None:
        raise ValueError(f"{run} was trained on {corpus.name} as built from the hub: leave --data-dir out")
    raise ValueError(f"{run} was trained on the files of {corpus.name} in {kept}: say so with --data-dir {kept}")
