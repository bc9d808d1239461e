"""Corpora: by name, from files of one's own or from the hub, always as splits of `text` and, if labelled, `label`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from ..tokenization import UNKNOWN
from . import demo
from .caching import ROWS_AT_ONCE, cache_lock, explaining_the_cache
from .cleaning import Cleaned, class_names, clean
from .columns import arrays_of, texts_of
from .corpus_spec import SPLITS, CorpusSpec, Reading, located, paths_of
from .hub_corpora import NORMALISATION as HUB_NORMALISATION
from .hub_corpora import HubUnreachableError, build_from_hub
from .kept import require_column
from .labels import quoted
from .readers import Documents, Wanted, from_dataset, have_labels, read_documents
from .splitting import split_off
from .subwords import WORDS
from .words import NumberedWords, remember_words


@dataclass(frozen=True)
class SplitReport:
    """What became of one split's documents."""

    source: str
    documents: int
    available: int | None  # before `limits`; None where reading stopped at one
    empty: int  # without words, of what was read of the source
    truncated: int  # cut at `max_words`
    max_words: int
    mean_words: float  # after cutting
    empty_kept: bool = False  # else they are left out
    labels: str = "none"  # "tab": of lines that are `label<TAB>text`; "column": of a table
    column: str | None = None  # of the text, where nobody named it

    def __str__(self) -> str:
        parts = [f"{self.documents:,} documents, {self.mean_words:.1f} words on average"]
        if self.available is None:
            parts += ["the first, where reading stopped"]
        elif self.documents < self.available:
            parts += [f"the first of {self.available:,}"]
        parts += [f"the text from column {quoted(self.column)}"] if self.column else []
        parts += ["lines read as label<TAB>text"] if self.labels == "tab" else []
        what = "empty, each a sentence without words" if self.empty_kept else "empty left out"
        parts += [f"{self.empty:,} {what}"] if self.empty else []
        parts += [f"{self.truncated:,} cut at {self.max_words} words"] if self.truncated else []
        return "; ".join(parts)


@dataclass(frozen=True)
class CorpusReport:
    """What was read, left out and cut; `str()` is for people, `as_dict()` for JSON."""

    name: str
    splits: dict[str, SplitReport]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join([f"{self.name} {name}: {split}" for name, split in self.splits.items()] + list(self.notes))


@dataclass(frozen=True)
class Corpus:
    """Splits `train`, `validation`, `test` with columns `text` and, if labelled, `label` (a ClassLabel)."""

    name: str
    splits: DatasetDict
    report: CorpusReport
    spec: CorpusSpec  # as it holds for these texts; a corpus built from the hub has its own normalisation and mark

    @property
    def labelled(self) -> bool:
        return all("label" in rows.column_names for rows in self.splits.values())


@explaining_the_cache()
def load_corpus(
    spec: CorpusSpec, *, data_dir: str | Path | None = None, limits: Mapping[str, int] | None = None
) -> Corpus:
    """The corpus of a spec; `limits` keeps the first documents of a split, `{"train": 10000}`.

    Files are looked for under `data_dir` (default: the working folder). Without `data_dir` a spec with `hub` is built
    from the hub. A file is read no further than its limit, unless what is kept depends on the rest: on the number of
    documents where validation or test sets are drawn from them, and on all labels where these name the classes.

    Raises FileNotFoundError that lists the files to place, and ValueError naming file and line for content that is not
    what the spec says; OSError where the cache cannot be written.
    """
    limits = _checked(limits or {})
    spec, documents, notes = _documents(spec, data_dir, limits)
    mark = spec.unknown_mark or UNKNOWN
    how: dict[str, Any] = {"normalisation": spec.normalisation, "unknown_mark": mark, "max_words": spec.most_words}
    cleaned = {split: clean(raw, numbered=spec.tokenizer == WORDS, **how) for split, raw in documents.items()}
    unlabelled = [split.source for split in cleaned.values() if not split.labelled]
    names = class_names(cleaned, spec.labels) if not (unlabelled or spec.test_alone) else None
    if 0 < len(unlabelled) < len(cleaned):
        notes.append(f"Labels are not used, since there are none in {' and '.join(unlabelled)}.")
    missing = [split for split in SPLITS if split not in cleaned and not spec.test_alone]
    if missing:
        notes.append(split_off(cleaned, missing))
    kept = {split: _first(cleaned[split].rows, limits.get(split)) for split in SPLITS if split in cleaned}
    reports = {split: _report(cleaned[split], rows, spec.most_words) for split, rows in kept.items()}
    splits = DatasetDict({split: _finished(rows, names) for split, rows in kept.items()})
    for split, rows in kept.items():
        words = cleaned[split].new_words
        if words is not None:
            numbers = rows.select_columns(["numbers"])
            remember_words(splits[split], NumberedWords(numbers, words, spec.normalisation, mark))
    notes += _repeated(splits)
    return Corpus(spec.name, splits, CorpusReport(spec.name, reports, tuple(notes)), spec)


def read_texts(
    source: Path | Sequence[str], reading: Reading, text_column: str | None = None, label_column: str | None = None
) -> tuple[Dataset, SplitReport]:
    """The column `text` of a file, or of the lines of standard input, with a row for every one; empty texts are "".

    A column `cut` tells which were longer than a model reads. They are read as by `load_corpus`: the same columns,
    labels, cuts and refusals.
    """
    if isinstance(source, Path):
        lines = source.suffix.lower() == ".txt"
        documents = read_documents(source, reading.wanted(str(source), lines, text_column, label_column))
        require_column(source, label_column)
    else:
        wanted = reading.wanted("standard input", True, text_column, label_column)
        rows = Dataset.from_dict({"text": source}, Features({"text": Value("string")}))
        labels: Literal["tab", "none"] = "tab" if have_labels(source, "standard input", wanted.labelled) else "none"
        documents = Documents(rows, "standard input", "line", labels)
    cleaned, report = _read(documents, reading, keep_empty=True)
    return cleaned.rows.select_columns([name for name in ("text", "cut") if name in cleaned.rows.column_names]), report


def read_labelled(
    path: Path, reading: Reading, text_column: str | None, label_column: str
) -> tuple[Dataset, SplitReport]:
    """The columns `text` and `label`, a class's name, of a file; documents without words are left out."""
    lines = path.suffix.lower() == ".txt"
    wanted = reading.wanted(str(path), lines, text_column, label_column)
    cleaned, report = _read(read_documents(path, replace(wanted, labelled=True)), reading, keep_empty=False)
    class_names({"train": cleaned})
    return cleaned.rows.select_columns(["text", "label"]), report


def _read(documents: Documents, reading: Reading, keep_empty: bool) -> tuple[Cleaned, SplitReport]:
    cleaned = clean(
        documents,
        normalisation=reading.normalisation,
        unknown_mark=reading.unknown_mark or UNKNOWN,
        max_words=reading.most_words,
        keep_empty=keep_empty,
    )
    return cleaned, _report(cleaned, cleaned.rows, reading.most_words, keep_empty)


def _documents(
    spec: CorpusSpec, data_dir: str | Path | None, limits: Mapping[str, int]
) -> tuple[CorpusSpec, dict[str, Documents], list[str]]:
    """The corpus as it was read, the spec as it holds for it, and notes."""
    wanted = Wanted(spec.text_column, spec.label_column, spec.labelled)
    if spec.in_memory:
        raise ValueError("The texts were in memory and cannot be read again: name a corpus.")
    if spec.embedded is not None:
        most = limits if spec.labels else {}  # else all training labels name the classes
        read = {split: from_dataset(f"demo ({split})", rows, wanted) for split, rows in demo.first(most).items()}
        return spec, {split: replace(documents, most=most.get(split)) for split, documents in read.items()}, []
    if spec.hub is None or (spec.files is not None and data_dir is not None):
        files = located(spec, Path(data_dir or "."))
        parts = {split: _as_far_as(limits.get(split), wanted, spec, split) for split in files}
        return spec, {split: read_documents(path, parts[split]) for split, path in files.items()}, []
    try:
        documents = build_from_hub(spec.hub, spec.labels)
    except HubUnreachableError as error:
        paths = "".join(f"\n  DIR/{path}" for path in paths_of(spec).values())
        instead = f" Place these files, one document a line, and give --data-dir DIR:{paths}" if paths else ""
        raise FileNotFoundError(
            f"Corpus {spec.name}: without --data-dir it is built from the hub dataset {spec.hub.dataset}, and the hub "
            f"could not be reached ({error}).{instead}"
        ) from error
    own = {"normalisation": HUB_NORMALISATION, "unknown_mark": None, "labels": None}
    note = f"A sample of {spec.hub.dataset} with seed {spec.hub.seed}: equivalent to the benchmark, not the same."
    return spec.model_copy(update=own), documents, [note]


def _as_far_as(limit: int | None, wanted: Wanted, spec: CorpusSpec, split: str) -> Wanted:
    """What is wanted of a split's file with this limit: all of it where the documents that are kept depend on that."""
    if split == "train" and len(paths_of(spec)) < len(SPLITS):  # others are drawn from all of them
        return wanted
    classes_are_known = split != "train" or spec.labels is not None  # else all training labels name them
    return replace(wanted, most=limit, most_labelled=limit if classes_are_known else None)


def _checked(limits: Mapping[str, int]) -> Mapping[str, int]:
    for split, limit in limits.items():
        if split not in SPLITS or limit < 1:
            raise ValueError(f"limits: {split}={limit}; a limit is at least 1, for one of {', '.join(SPLITS)}.")
    return limits


def _first(rows: Dataset, limit: int | None) -> Dataset:
    return rows if limit is None else rows.select(range(min(limit, len(rows))))


def _report(cleaned: Cleaned, kept: Dataset, max_words: int, empty_kept: bool = False) -> SplitReport:
    truncated = words = 0
    for counts in arrays_of(kept, "words"):
        truncated += int((counts > max_words).sum())
        words += int(np.minimum(counts, max_words).sum())
    return SplitReport(
        source=cleaned.source,
        documents=len(kept),
        available=None if len(cleaned.rows) == cleaned.most else len(cleaned.rows),
        empty=cleaned.empty,
        truncated=truncated,
        max_words=max_words,
        mean_words=words / max(1, len(kept)),
        empty_kept=empty_kept,
        labels=cleaned.labels,
        column=cleaned.column,
    )


def _repeated(splits: Mapping[str, Dataset]) -> list[str]:
    """A note for each split that holds training texts: figures of these are not figures of new texts."""
    held = {split: Counter(texts_of(rows)) for split, rows in splits.items() if split != "train"}
    known = set().union(*held.values())
    seen = {text for text in texts_of(splits["train"]) if text in known} if "train" in splits else set()
    found = {split: sum(count for text, count in texts.items() if text in seen) for split, texts in held.items()}
    return [
        f"{count:,} of the {len(splits[split]):,} {split} documents are training documents, too, word for word."
        for split, count in found.items()
        if count
    ]


def _finished(rows: Dataset, names: list[str] | None) -> Dataset:
    if names is None:
        return rows.select_columns(["text"])
    rows = rows.select_columns(["text", "label"])
    features = Features({**rows.features, "label": ClassLabel(names=names)})
    with cache_lock(rows, rows._fingerprint):
        return rows.cast(features, batch_size=ROWS_AT_ONCE, writer_batch_size=ROWS_AT_ONCE)
