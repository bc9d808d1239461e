"""The tokenizer of a corpus, whose words are counted once: the list is kept beside the cached training texts."""

import hashlib
import json
from contextlib import suppress

import numpy as np
import tokenizers
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from ..tokenization import chosen_words, control_words, word_tokenizer
from .caching import alone, cache_folder
from .corpora import CorpusSpec
from .words import word_counts


def corpus_tokenizer(spec: CorpusSpec, train: Dataset) -> PreTrainedTokenizerFast:
    """The tokenizer that `train_tokenizer` makes of training texts with the settings of their corpus.

    Raises what `train_tokenizer` raises, with the corpus and its file before it, and OSError where the cache cannot be
    written.
    """
    try:
        tokenizer = _corpus_tokenizer(spec, train)
    except ValueError as error:
        file = f" ({spec.files.train})" if spec.files and spec.files.train else ""
        raise ValueError(f"corpus {spec.name}{file}: {error}") from None
    tokenizer.model_max_length = spec.max_words + 2  # as much of a text as training reads
    return tokenizer


def _corpus_tokenizer(spec: CorpusSpec, train: Dataset) -> PreTrainedTokenizerFast:
    settings = spec.tokenizer_settings()
    like = {name: settings[name] for name in ("unknown_mark", "normalisation")}
    folder = cache_folder(train)
    if folder is None:
        return word_tokenizer(_frequent_words(train, **settings), **like)
    key = json.dumps([train._fingerprint, settings, tokenizers.__version__])
    name = f"words-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    file = folder / f"{name}.json"
    with alone(train, name):
        with suppress(FileNotFoundError, ValueError):  # ValueError: damaged
            return word_tokenizer(json.loads(file.read_text("utf-8")), **like)
        words = _frequent_words(train, **settings)
        file.write_text(json.dumps(words), "utf-8")
    return word_tokenizer(words, **like)


def _frequent_words(
    train: Dataset, *, vocabulary_size: int, min_frequency: int, unknown_mark: str, normalisation: str
) -> list[str]:
    """The words of the tokenizer, as `train_tokenizer` would choose them."""
    words, counts = word_counts(train, normalisation, unknown_mark)
    most = vocabulary_size + len(control_words(unknown_mark))
    if len(counts) > most:
        min_frequency = max(min_frequency, int(np.partition(counts, -most)[-most]))
    frequent = np.flatnonzero(counts >= min_frequency)
    ranked = sorted(zip((-counts[frequent]).tolist(), (words[number] for number in frequent), strict=True))
    return chosen_words((word for _, word in ranked), vocabulary_size, min_frequency, unknown_mark)
