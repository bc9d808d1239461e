"""Benchmarks built from hub datasets: a sample with a fixed seed, as lower-cased word tokens.

The benchmarks of Yang et al. (2017) are samples of the same Yahoo answers and Yelp reviews, of 20 to 200 words; their
exact samples are not on the hub, so these are equivalent ones and not the same.
"""

import html
import os
import re
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

import datasets
import numpy as np
from datasets import ClassLabel, Dataset
from huggingface_hub.errors import HfHubHTTPError
from pydantic import BaseModel, ConfigDict, Field

from ..tokenization import word_splitter
from .caching import cache_lock
from .readers import Documents, Wanted, from_dataset

NORMALISATION = "words"
_REVISION = 2  # raise it when `_tokenise` changes: it is part of the cache's key, the code of a function is not
_ROWS_PER_PROCESS = 5_000


class HubSource(BaseModel):
    """Which hub dataset, which of its columns, and the sample: `train` and `validation` from its train split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    config: str | None = None
    text_columns: tuple[str, ...] = Field(min_length=1)  # joined in this order
    label_column: str | None = None
    first_label: bool = False  # labels are names with spaces between, in a text or a list; the first is the class
    test_split: str = "test"  # "train": the test set, too, is a part of the hub's train split
    escaped: bool = True  # line ends and quotes are written `\n` and `\"`, other signs as character entities
    train: int = Field(default=100_000, ge=1)
    validation: int = Field(default=10_000, ge=1)
    test: int = Field(default=10_000, ge=1)
    seed: int = Field(default=0, ge=0)
    min_words: int = Field(default=20, ge=1)  # shorter and longer documents are not sampled
    max_words: int = Field(default=200, ge=1)
    punctuation_counts: bool = True  # or words are what stands between spaces


class HubUnreachableError(Exception):
    """The hub did not give the dataset, and the cache does not hold it."""


def build_from_hub(source: HubSource, labels: Sequence[str] | None = None) -> dict[str, Documents]:
    """Documents of the three splits, with labels if the source names a label column; with `labels`, those of these.

    The sample depends on the seed and the dataset only, not on the number of processes; datasets and tokens are cached.
    Raises HubUnreachableError, and ValueError if the dataset is too small.
    """
    sizes = {"train": source.train, "validation": source.validation, "test": source.test}
    ends = dict(zip(sizes, np.cumsum(list(sizes.values())).tolist(), strict=True))
    known = tuple(labels or ())
    if source.test_split == "train":
        training = test = _sample(source, known, "train", ends["test"])
    else:
        training = _sample(source, known, "train", ends["validation"])
        test = _sample(source, known, source.test_split, source.test)
    samples = {name: training.select(range(ends[name] - sizes[name], ends[name])) for name in ("train", "validation")}
    samples["test"] = test.select(range(len(test) - source.test, len(test)))
    wanted = Wanted(labelled=source.label_column is not None)
    return {split: from_dataset(f"{source.dataset} ({split})", rows, wanted) for split, rows in samples.items()}


def _sample(source: HubSource, labels: tuple[str, ...], split: str, size: int) -> Dataset:
    """The first `size` documents of fitting length, in the order of a seeded permutation of the hub's split."""
    rows = _download(source, split)
    order = np.random.default_rng(source.seed).permutation(len(rows))
    for candidates in (2 * size, len(rows)):  # most documents fit: tokenise them all only if half of these do not
        documents = _tokenised(rows.select(order[:candidates]), source, labels)
        if len(documents) >= size:
            return documents.select(range(size))
    raise ValueError(
        f"{source.dataset} ({split}) has {len(documents):,} documents of {source.min_words} to {source.max_words} "
        f"words; {size:,} were asked for."
    )


def _download(source: HubSource, split: str) -> Dataset:
    try:
        rows = datasets.load_dataset(source.dataset, source.config, split=split)
    except (ConnectionError, FileNotFoundError, HfHubHTTPError) as error:
        raise HubUnreachableError(str(error).strip().splitlines()[0]) from error
    columns = [*source.text_columns, *([source.label_column] if source.label_column else [])]
    missing = [name for name in columns if name not in rows.column_names]
    if missing:
        raise ValueError(f"{source.dataset} has no column {missing[0]!r}; it has {', '.join(rows.column_names)}.")
    return rows.select_columns(columns)


def _tokenised(rows: Dataset, source: HubSource, labels: tuple[str, ...]) -> Dataset:
    # texts first: a label column may itself be called `text` or one of the texts `label`
    label = source.label_column
    features = datasets.Features(
        {"text": datasets.Value("string")}
        | ({"label": datasets.Value("string") if source.first_label else rows.features[label]} if label else {})
    )
    processes = min(os.cpu_count() or 1, 16, len(rows) // _ROWS_PER_PROCESS)
    with cache_lock(rows, rows._fingerprint):
        return rows.map(
            _tokenise,
            batched=True,
            num_proc=processes if processes > 1 else None,
            remove_columns=rows.column_names,
            features=features,
            desc=f"Tokenising {source.dataset}",
            fn_kwargs={
                "source": source.model_dump(mode="json", exclude={"train", "validation", "test", "seed"}),
                "labels": labels if source.first_label or not label else _as_held(labels, rows.features[label]),
                "revision": _REVISION,
            },
        )


def _as_held(labels: tuple[str, ...], feature: Any) -> tuple[Any, ...]:
    """Names of labels as a column has them: numbers of classes, numbers, or names."""
    if isinstance(feature, ClassLabel):
        return tuple(map(feature.str2int, labels))
    return tuple(map(int, labels)) if "int" in str(getattr(feature, "dtype", "")) else labels


def _tokenise(
    batch: Mapping[str, Sequence[Any]], *, source: Mapping[str, Any], labels: Sequence[Any], revision: int
) -> dict[str, list[Any]]:
    how = HubSource.model_validate(source)
    split = word_splitter(NORMALISATION)
    kept: dict[str, list[Any]] = {"text": [], "label": []} if how.label_column else {"text": []}
    names = batch[how.label_column] if how.label_column else repeat(None)
    texts = zip(*(batch[name] for name in how.text_columns), strict=True)
    for parts, name in zip(texts, names, strict=False):
        label = _first_name(name) if how.first_label else name
        if labels and label not in labels:
            continue
        text = " ".join(part or "" for part in parts)
        words = split(_plain(text) if how.escaped else text)
        if how.min_words <= len(words if how.punctuation_counts else text.split()) <= how.max_words:
            kept["text"].append(" ".join(words))
            if how.label_column:
                kept["label"].append(label)
    return kept


def _first_name(label: str | Sequence[str] | None) -> str | None:
    names = (label if isinstance(label, str) else " ".join(label or ())).split()
    return names[0] if names else None


def _plain(text: str) -> str:
    r"""Text without what its files put into it: `\n` and `\"` in two characters, character entities, `<br>`."""
    text = html.unescape(text.replace("\\n", " ").replace('\\"', '"'))
    return re.sub(r"<br\s*/?>", " ", text, flags=re.IGNORECASE)
