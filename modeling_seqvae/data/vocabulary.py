"""The tokenizer of a corpus: words, counted once, or sub-words. What is made of training texts is kept beside them."""

import hashlib
import json
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import tokenizers
from datasets import Dataset
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from ..tokenization import (
    BOS,
    EOS,
    PAD,
    UNKNOWN,
    chosen_words,
    content_hash,
    control_words,
    word_tokenizer,
    wrapped,
)
from .caching import cache_folder, cache_lock
from .columns import texts_of
from .corpus_spec import CorpusSpec
from .launch import launched
from .subwords import BPE, GIVEN, WORDS, load_tokenizer, train_bpe_tokenizer
from .words import word_counts

UNPARTED = re.compile(
    "["
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Kana and Han
    "]+"
)
"""A run of letters of scripts that put no spaces between words."""
LONG_RUN = 7
"""Letters in such a run that are more than a word: texts whose words were parted hardly have one."""
_LOOKED_AT = 1000  # texts


def corpus_tokenizer(spec: CorpusSpec, train: Dataset) -> PreTrainedTokenizerFast:
    """The tokenizer that a corpus asks for: of words or of byte-level BPE, trained here, or one from elsewhere.

    Raises what `train_tokenizer`, `train_bpe_tokenizer` and `load_tokenizer` raise, with the corpus and its file before
    it where the texts are to blame; ValueError for a tokenizer that is no longer what `tokenizer_sha256` says; OSError
    where the cache cannot be written.
    """
    if spec.tokenizer in (WORDS, BPE):
        try:
            tokenizer = _trained(spec, train)
        except ValueError as error:
            file = f" ({spec.files.train})" if spec.files and spec.files.train else ""
            raise ValueError(f"corpus {spec.name}{file}: {error}") from None
    else:
        tokenizer = _from_elsewhere(spec)
    tokenizer.model_max_length = spec.max_words + 2  # as much of a text as training reads
    return tokenizer


def _from_elsewhere(spec: CorpusSpec) -> PreTrainedTokenizerFast:
    if spec.tokenizer == GIVEN:
        raise ValueError("corpus.tokenizer: it was given in memory; pass it to the trainer again as processing_class.")
    tokenizer = load_tokenizer(spec.tokenizer)
    found = content_hash(tokenizer)
    if spec.tokenizer_sha256 not in (None, found):
        raise ValueError(
            f"tokenizer {spec.tokenizer} is not the one that the recipe knows: its SHA-256 is {found[:16]}..., not "
            f"{spec.tokenizer_sha256[:16]}... Put back that one, or name it by a revision (NAME@REVISION)"
        )
    return tokenizer


def _trained(spec: CorpusSpec, train: Dataset) -> PreTrainedTokenizerFast:
    settings = spec.tokenizer_settings()
    if spec.tokenizer == BPE:
        return _cached(
            spec, train, lambda: train_bpe_tokenizer(texts_of(train), **settings).backend_tokenizer.to_str(), _of_pieces
        )
    share = unparted_share(train)
    if share > 0.5 and launched().is_main_process:
        warnings.warn(
            f"{spec.name}: {share:.0%} of the text is in runs of {LONG_RUN} or more letters without a space, of a "
            "script such as that of Chinese, Japanese or Thai. The tokenizer `words` takes each run, a whole clause, "
            "for one word. Use --tokenizer bpe (corpus.tokenizer), or part the words by spaces first",
            stacklevel=4,
        )
    like = {name: settings[name] for name in ("unknown_mark", "normalisation")}
    return _cached(
        spec,
        train,
        lambda: json.dumps(_frequent_words(train, **settings)),
        lambda words: word_tokenizer(json.loads(words), **like),
    )


def unparted_share(rows: Dataset) -> float:
    """Share of the characters of the first texts, white space left out, in long runs of a script without spaces."""
    text = "\n".join(filter(None, texts_of(rows.select(range(min(_LOOKED_AT, len(rows)))))))
    letters = sum(map(len, text.split()))
    runs = (len(run) for run in UNPARTED.findall(text) if len(run) >= LONG_RUN) if not text.isascii() else ()
    return sum(runs) / letters if letters else 0.0


def _cached(spec: CorpusSpec, train: Dataset, make: Callable[[], str], read: Callable[[str], Any]) -> Any:
    """The tokenizer that `read` gives of the JSON that `make` makes, and that is kept where the texts are cached."""
    folder = cache_folder(train)
    if folder is None:
        return read(make())
    key = json.dumps([train._fingerprint, spec.tokenizer_settings(), tokenizers.__version__])
    name = f"{spec.tokenizer}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    file = folder / f"{name}.json"
    with cache_lock(train, name):
        with suppress(FileNotFoundError, ValueError):  # ValueError: damaged
            return read(file.read_text("utf-8"))
        made = make()
        file.write_text(made, "utf-8")
    return read(made)


def _of_pieces(pieces: str) -> PreTrainedTokenizerFast:
    json.loads(pieces)  # of damaged ones the library raises no ValueError
    return wrapped(Tokenizer.from_str(pieces), PAD, BOS, EOS, UNKNOWN)


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
