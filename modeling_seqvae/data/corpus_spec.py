"""Where a corpus is and how its texts are read: by a name, or as files of one's own."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..tokenization import UNKNOWN, normalisation_of
from .files import cached_sha256_of
from .hub_corpora import HubSource
from .kept import require_column
from .readers import READERS, Labelled, Wanted, require_file
from .subwords import BPE, WORDS, require_bytes

SPLITS = ("train", "validation", "test")
WHOLE = 1 << 31
"""As many words of a document as there may be: where it is cut at a number of tokens instead."""
_SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "dev", "val"), "test": ("test",)}


class CorpusFiles(BaseModel):
    """Paths of the splits, absolute or relative to the data folder; a missing one is split off from `train`.

    Without `train` there is a test set alone, which is for evaluation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: str | None = None
    validation: str | None = None
    test: str | None = None

    @model_validator(mode="after")
    def _for_something(self) -> "CorpusFiles":
        if self.train is None and (self.test is None or self.validation is not None):
            raise ValueError("there must be `train`, or `test` alone")
        return self


class CorpusSpec(BaseModel):
    """Where a corpus is and how its text is to be read: the `data` section of configuration/corpora/*.yaml.

    It has `files`, `hub` (which builds it without them) or both, is `embedded` in the package, or is `in_memory`: data
    sets that a trainer was given, which cannot be read again.
    In a .txt a labelled line is `label<TAB>text`; tables have their labels in `label_column`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    files: CorpusFiles | None = None
    embedded: Literal["demo"] | None = None
    hub: HubSource | None = None
    in_memory: bool = False
    labelled: Labelled = False  # "auto": as each file has it
    text_column: str | None = None
    label_column: str | None = None
    labels: tuple[str, ...] | None = None  # the classes there are; None: those found in training
    normalisation: str = "whitespace"
    unknown_mark: str | None = None  # None: the text has none
    tokenizer: str = WORDS  # or bpe, or the folder, the run or the name on the hub of any fast tokenizer
    tokenizer_sha256: str | None = None  # what a tokenizer from elsewhere holds
    vocabulary_size: int = Field(default=20_000, ge=1)
    min_frequency: int | None = Field(default=None, ge=1)  # None: 1 for words with an unknown mark, else 2
    max_words: int = Field(default=200, ge=1)  # documents are cut there; of other tokenizers at so many tokens

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_as_text(cls, labels: Any) -> Any:
        return tuple(str(label) for label in labels) if isinstance(labels, list | tuple) else labels

    @field_validator("tokenizer")
    @classmethod
    def _folder_wherever_it_is_read(cls, tokenizer: str) -> str:
        if not tokenizer.strip():
            raise ValueError(f"must be {WORDS}, {BPE}, or the folder or name of a fast tokenizer")
        here = tokenizer not in (WORDS, BPE) and Path(tokenizer).expanduser().is_dir()
        return str(Path(tokenizer).expanduser().resolve()) if here else tokenizer

    @model_validator(mode="after")
    def _consistent(self) -> "CorpusSpec":
        if [self.files or self.hub, self.embedded, self.in_memory or None].count(None) != 2:
            raise ValueError("a corpus has `files`, `hub` or both, or else `embedded`.")
        if self.label_column is not None and self.labelled is False and not self.test_alone:
            raise ValueError("label_column is given, but labelled is false.")
        normalisation_of(self.normalisation, self.unknown_mark or UNKNOWN)
        if self.tokenizer == BPE:
            require_bytes(self.vocabulary_size)
        return self

    @property
    def test_alone(self) -> bool:
        """Whether all there is, is a test set: one can evaluate on it and not train."""
        return self.files is not None and self.files.train is None

    @property
    def most_words(self) -> int:
        """Words that are read of a document: those of tokenizers of other tokens are cut when they are tokenised."""
        return self.max_words if self.tokenizer == WORDS else WHOLE

    def tokenizer_settings(self) -> dict[str, Any]:
        """Keyword arguments of `train_tokenizer` for this corpus, or of `train_bpe_tokenizer`."""
        if self.tokenizer == BPE:
            return {"vocabulary_size": self.vocabulary_size, "min_frequency": self.min_frequency or 2}
        default = 1 if self.unknown_mark else 2  # without a mark, rare words are what trains the unknown token
        return {
            "vocabulary_size": self.vocabulary_size,
            "min_frequency": self.min_frequency or default,
            "unknown_mark": self.unknown_mark or UNKNOWN,
            "normalisation": self.normalisation,
        }


IN_MEMORY = CorpusSpec(name="data in memory", in_memory=True, normalisation="words")
"""What stands for a corpus in the recipe of a run on data sets of the user's own, read as files are."""


@dataclass(frozen=True)
class Reading:
    """How the files of a user are read: as for training, or for a model as its training corpus was."""

    normalisation: str = "words"
    unknown_mark: str | None = None
    tokenizer: str = WORDS
    max_words: int = CorpusSpec.model_fields["max_words"].default
    labelled: Labelled = False  # lines of a .txt and of standard input; a table's labels are asked for by their name
    text_column: str | None = None
    label_column: str | None = None

    def as_in(self, spec: CorpusSpec) -> "Reading":
        """This one with the cut, the columns and the lines of a corpus; lines are known where it has .txt files."""
        lines = spec.files is not None and _are_lines(spec.files)
        by_words = self.tokenizer == WORDS  # else what has no words, and so is empty, is what the corpus takes for that
        return replace(
            self,
            normalisation=self.normalisation if by_words else spec.normalisation,
            unknown_mark=self.unknown_mark if by_words else spec.unknown_mark,
            max_words=spec.max_words,
            labelled="auto" if spec.labelled and lines else False,  # lines without a TAB are text
            text_column=None if lines else spec.text_column,
            label_column=None if lines else spec.label_column,
        )

    @property
    def most_words(self) -> int:
        """As that of a CorpusSpec."""
        return self.max_words if self.tokenizer == WORDS else WHOLE

    def wanted(self, source: str, lines: bool, text_column: str | None, label_column: str | None) -> Wanted:
        """What to read of a file; `label_column` says of lines that they are `label<TAB>text`.

        Raises ValueError for a text column where there are lines.
        """
        if lines and text_column is not None:
            raise ValueError(f"{source} has lines and no columns: --text-column is for tables.")
        if lines:
            return Wanted(labelled=label_column is not None or self.labelled)
        return Wanted(text_column or self.text_column, label_column or self.label_column)


def spec_from_path(
    path: str | Path,
    text_column: str | None = None,
    label_column: str | None = None,
    validation: str | Path | None = None,
    test: str | Path | None = None,
    *,
    reading: Reading | None = None,
    evaluated: bool = False,
) -> CorpusSpec:
    """Spec of one's own raw text: a file, or a folder with files called train, validation (valid, dev, val) and test.

    What is not there is split off from the training documents, but a single file that is `evaluated` is the test set.
    For a .txt, `label_column` says that its lines are `label<TAB>text`. `reading` is that of a model's own corpus.

    Raises FileNotFoundError for a path that is not there or a folder without a training file, and ValueError for a
    folder with two files for one split, for a text column where there are only lines, and for a label column that a
    file alone lacks.
    """
    path = Path(path).expanduser().resolve()
    files = _files_in(path) if path.is_dir() else {"test" if evaluated else "train": path}
    given = {"validation": validation, "test": test}
    files |= {split: Path(file).expanduser().resolve() for split, file in given.items() if file is not None}
    for file in files.values():
        require_file(file)
    reading = reading or Reading()
    paths = CorpusFiles(**{split: str(file) for split, file in files.items()})
    wanted = reading.wanted(str(path), _are_lines(paths), text_column, label_column)
    alone = paths.train is None
    if alone:
        require_column(files["test"], label_column)
    return CorpusSpec(
        name=path.name if path.is_dir() else path.stem,
        files=paths,
        labelled=wanted.labelled if alone or label_column is None else True,
        text_column=wanted.text_column,
        label_column=wanted.label_column if alone else label_column,
        normalisation=reading.normalisation,
        unknown_mark=reading.unknown_mark,
        tokenizer=reading.tokenizer,
        max_words=reading.max_words,
    )


def checksum_of_files(spec: CorpusSpec, data_dir: str | Path | None = None) -> str | None:
    """The SHA-256 of a corpus's files together; None where it is not read from files, or they are not there."""
    if spec.files is None or (spec.hub is not None and data_dir is None):
        return None
    paths = _places_of(spec, data_dir)
    if not all(path.is_file() for path in paths.values()):
        return None
    sums = [f"{split} {cached_sha256_of(path)}" for split, path in paths.items()]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()


def files_are_there(spec: CorpusSpec, data_dir: str | Path | None) -> bool:
    """Whether a corpus of files finds all of them."""
    return all(path.is_file() for path in _places_of(spec, data_dir).values())


def moved_to(spec: CorpusSpec, folder: str | Path) -> CorpusSpec:
    """The spec with its absolute files in another folder, or in a folder there of the name that theirs had."""
    absolute = [Path(path) for path in paths_of(spec).values() if Path(path).is_absolute()]
    if not absolute:
        return spec
    before, now = Path(os.path.commonpath([path.parent for path in absolute])), Path(folder).expanduser().resolve()
    places = [
        spec.model_copy(update={"files": CorpusFiles(**{
            split: str(place / Path(path).relative_to(before)) if Path(path).is_absolute() else path
            for split, path in paths_of(spec).items()
        })})
        for place in (now, now / before.name)
    ]  # fmt: skip
    return next((found for found in places if files_are_there(found, now)), places[0])


def located(spec: CorpusSpec, data_dir: Path) -> dict[str, Path]:
    """The files of a spec under a folder, by split. Raises FileNotFoundError that lists those that are not there."""
    files = _places_of(spec, data_dir)
    missing = "".join(f"\n  {path.absolute()}" for path in files.values() if not path.is_file())
    if missing:
        hub = f" Without --data-dir it is built from the hub dataset {spec.hub.dataset}." if spec.hub else ""
        line = "`label<TAB>text` a line" if spec.labelled is True else "one document a line"
        raise FileNotFoundError(
            f"Corpus {spec.name}: place these files ({line}), or give the folder they are under as --data-dir."
            f"{hub} Missing:{missing}"
        )
    return files


def paths_of(spec: CorpusSpec) -> dict[str, str]:
    """The paths of a spec's files by split, as it has them."""
    return {} if spec.files is None else spec.files.model_dump(exclude_none=True)


def _places_of(spec: CorpusSpec, data_dir: str | Path | None) -> dict[str, Path]:
    """Where the files of a spec should be, under a folder or the working folder, by split."""
    return {split: _find(Path(data_dir or ".").expanduser() / path) for split, path in paths_of(spec).items()}


def _find(path: Path) -> Path:
    """The path, or the one in the archive of the public benchmarks, where the folder `yahoo` is called `yahoo_data`."""
    public = path.parent.with_name(f"{path.parent.name}_data") / path.name if path.parent.name else path
    return public if public.is_file() and not path.is_file() else path


def _are_lines(files: CorpusFiles) -> bool:
    paths = (files.train, files.validation, files.test)
    return all(Path(path).suffix.lower() == ".txt" for path in paths if path is not None)


def _files_in(folder: Path) -> dict[str, Path]:
    """Files of the splits: `train.csv` and the like, also with the corpus's name before it, `reviews.train.txt`."""
    files = {}
    for split, aliases in _SPLIT_NAMES.items():
        candidates = [
            file
            for file in sorted(folder.iterdir())
            if file.suffix.lower() in READERS and file.stem.lower().rpartition(".")[2] in aliases
        ]
        if len(candidates) > 1:
            raise ValueError(f"{folder} has several {split} files: {', '.join(file.name for file in candidates)}.")
        if candidates:
            files[split] = candidates[0]
    if "train" not in files:
        raise FileNotFoundError(f"{folder} has no training file; put one there, for example train.txt or train.csv.")
    return files
