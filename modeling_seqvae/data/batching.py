"""Tokenised datasets and length-grouped batches whose order is a pure function of (seed, epoch)."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, overload

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import torch
from datasets import Dataset, Features, List, Value
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from ..tokenization import WHITE_SPACE, content_hash, words_known_to
from .caching import cached_map
from .columns import array_of, arrays_of, tokens_of
from .words import Words, words_of

POOL_BATCHES = 64
"""Batches' worth of random sentences that are sorted by length together, at most: little padding, random batches."""
MIN_POOLS = 4
_REVISION = 5  # raise it when `tokenise` changes: it is part of the cache's key, the code of a function is not


def tokenise(split: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """The split with the columns below in place of `text`; sentences are 4 bytes a token, on disk.

        input_ids   `<s> x_1 ... x_n </s>`
        length      its tokens, n + 2
        unknown     those of the n words that the tokenizer does not know
        bytes       of the text in UTF-8, without white space at its ends, which is not read
        cut         whether that is the beginning of a text of more than `tokenizer.model_max_length` tokens
        index       the sentence's number

    A split is tokenised once: `datasets` caches the result beside one that lies on disk, by a fingerprint of the split
    and the tokenizer, and one in memory keeps it. Of several processes one does it and the others wait. Raises OSError
    where the cache cannot be written.
    """
    made = {"input_ids": List(Value("int32")), "length": Value("int32"), "unknown": Value("int32")}
    made |= {"bytes": Value("int64"), "cut": Value("bool")}
    limit = min(tokenizer.model_max_length, 1 << 30)  # there may be none
    kept = {name: feature for name, feature in split.features.items() if name != "text"}
    ids_of = cache(lambda: _ids_of(split, tokenizer))  # which takes time that who finds the work done does not need

    def encode(rows: pa.Table, indices: Sequence[int]) -> pa.Table:
        lengths, ids = ids_of()(rows, indices)
        texts, cut = _trimmed(rows), lengths > limit
        sizes = pc.binary_length(texts).to_numpy().astype(np.int64)
        if cut.any():
            for place in np.flatnonzero(cut).tolist():
                sizes[place] = bytes_of_the_first(limit, texts[place].as_py(), tokenizer)
            lengths, ids = _beginnings(limit, lengths, ids)
        until = np.append(0, lengths.cumsum())
        unknown_until = np.append(0, (ids == tokenizer.unk_token_id).cumsum())[until]
        columns = {
            "input_ids": pa.ListArray.from_arrays(until.astype(np.int32), ids),
            "length": lengths.astype(np.int32),
            "unknown": np.diff(unknown_until).astype(np.int32),
            "bytes": sizes,
            "cut": cut,
            "index": np.asarray(indices, np.int64),
        }
        return pa.table({**{name: rows[name] for name in kept}, **columns})

    return cached_map(
        split,
        encode,
        features=Features({**kept, **made, "index": Value("int64")}),
        new_fingerprint=_fingerprint(split, tokenizer),
        desc="tokenising",
    )


def _beginnings(limit: int, lengths: NDArray[np.int64], ids: NDArray[np.int32]) -> Words:
    """Sentences without what makes them longer than `limit` tokens; the last token, `</s>`, stays."""
    places = np.arange(len(ids)) - np.repeat(lengths.cumsum() - lengths, lengths)  # of each in its sentence
    kept = (places < limit - 1) | (places == np.repeat(lengths, lengths) - 1)
    return np.minimum(lengths, limit), ids[kept]


def bytes_of_the_first(limit: int, text: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """The UTF-8 bytes of as much of a text as is read in a sentence of `limit` tokens."""
    text = text.strip(WHITE_SPACE)
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    until = max((end for _, end in spans[: max(0, limit - 2)]), default=0)
    return len(text[:until].encode())


def bytes_read(texts: Iterable[str]) -> list[int]:
    """The UTF-8 bytes of each text, but for white space at its ends, which no tokenizer is given."""
    return [len(text.strip(WHITE_SPACE).encode()) for text in texts]


def _trimmed(rows: pa.Table) -> pa.Array:
    """The texts without white space at their ends: byte-level BPE would read it, and files are read without it."""
    return pc.utf8_trim(rows["text"].cast(pa.large_string()), characters=WHITE_SPACE)


def cut_share_of(tokenised: Dataset) -> float:
    """Share of the texts, in [0, 1], of which only the first tokens are read; 0 where that is not known."""
    if "cut" not in tokenised.column_names or not len(tokenised):
        return 0.0
    return sum(int(cut.sum()) for cut in arrays_of(tokenised, "cut")) / len(tokenised)


def bytes_of(tokenised: Dataset) -> int | None:
    """The UTF-8 bytes of all texts; None where they are not known."""
    if "bytes" not in tokenised.column_names:
        return None
    return sum(int(sizes.sum()) for sizes in arrays_of(tokenised, "bytes"))


def _ids_of(split: Dataset, tokenizer: PreTrainedTokenizerBase) -> Callable[[pa.Table, Sequence[int]], Words]:
    """A function from some rows and their indices to the lengths of their sentences, (N,), and all ids of these."""

    def by_tokenizer(rows: pa.Table, _: Sequence[int]) -> Words:
        sentences = tokenizer(_trimmed(rows).to_pylist(), return_attention_mask=False, verbose=False)["input_ids"]
        lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
        return lengths, np.fromiter(chain.from_iterable(sentences), np.int32, lengths.sum())

    known = words_known_to(tokenizer)
    if known is None or split.features["text"] not in (Value("string"), Value("large_string")):
        return by_tokenizer
    normalisation, vocabulary = known
    read, words = words_of(split, normalisation, tokenizer.unk_token)
    unknown, ids = tokenizer.unk_token_id, np.zeros(0, np.int32)

    def by_words(rows: pa.Table, indices: Sequence[int]) -> Words:
        nonlocal ids
        if rows["text"].null_count:
            return by_tokenizer(rows, indices)
        counts, numbers = read(rows, indices)
        new = [vocabulary.get(word, unknown) for word in words[len(ids) :]]
        ids = np.append(ids, np.array(new, np.int32)) if new else ids
        lengths = counts + 2
        sentences = np.full(lengths.sum(), tokenizer.eos_token_id, np.int32)
        ends = lengths.cumsum()
        sentences[ends - lengths] = tokenizer.bos_token_id
        inner = np.ones(len(sentences), bool)
        inner[ends - lengths] = inner[ends - 1] = False
        sentences[inner] = ids[numbers]
        return lengths, sentences

    return by_words


def _fingerprint(split: Dataset, tokenizer: PreTrainedTokenizerBase) -> str:
    key = f"{_REVISION}{split._fingerprint}{content_hash(tokenizer)}{tokenizer.model_max_length}"
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def sentence_lengths(tokenised: Dataset) -> np.ndarray:
    """The tokens of every sentence (N,), int32."""
    return array_of(tokenised, "length")


def unknown_share_of(tokenised: Dataset) -> float:
    """Share of the words, in [0, 1], that the tokenizer did not know; 0 if there are no words."""
    words = sum(int(lengths.sum()) - 2 * len(lengths) for lengths in arrays_of(tokenised, "length"))
    unknown = sum(int(counts.sum()) for counts in arrays_of(tokenised, "unknown"))
    return unknown / words if words else 0.0


def token_counts(tokenised: Dataset, vocab_size: int) -> np.ndarray:
    """How often each token is one that a decoder predicts, (V,): all tokens of all sentences but `<s>`."""
    counts = np.zeros(vocab_size, np.int64)
    for lengths, tokens in tokens_of(tokenised):
        first = lengths.cumsum() - lengths
        counts += np.bincount(np.delete(tokens, first), minlength=vocab_size)
    return counts


class Batches(Sequence[np.ndarray]):
    """The sentence numbers of batch after batch, each worked out when it is asked for; a slice is one as well."""

    def __init__(self, batch: Callable[[int], np.ndarray], places: range):
        self._batch = batch
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, key: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, key: slice) -> "Batches": ...

    def __getitem__(self, key: int | slice) -> "np.ndarray | Batches":
        if isinstance(key, slice):
            return Batches(self._batch, self._places[key])
        return self._batch(self._places[key])


class LengthGroupedBatches:
    """Batches of sentences of similar length: every sentence once an epoch, none wasted, one short batch at most.

    The order depends on (seed, epoch) alone, so that a resumed or distributed run reads the same batches. Sorting is
    within random pools, of which even a small corpus has `MIN_POOLS`: one pool would be the same batches every epoch.
    Only the pool of the batch at hand is ever sorted; memory is 4 bytes a sentence, and 8 more for the epoch at hand.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int):
        self.lengths = np.asarray(lengths, dtype=np.int32)
        self.batch_size = batch_size
        self.seed = seed
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if len(self.lengths) == 0:
            raise ValueError("there are no sentences to train on")

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def epoch(self, epoch: int) -> Batches:
        """The sentence numbers of each batch of an epoch, in order."""
        random = np.random.default_rng((self.seed, epoch))
        sentences = random.permutation(len(self.lengths))
        batches = random.permutation(len(self))
        pool_size = min(POOL_BATCHES, max(1, len(self) // MIN_POOLS)) * self.batch_size

        def batch(place: int) -> np.ndarray:
            start = int(batches[place]) * self.batch_size
            pool_start = start - start % pool_size
            pool = sentences[pool_start : pool_start + pool_size]
            in_order = pool[np.argsort(self.lengths[pool], kind="stable")]
            return in_order[start - pool_start :][: self.batch_size]

        return Batches(batch, range(len(self)))


def in_order_of_length(lengths: Sequence[int] | np.ndarray, batch_size: int) -> Batches:
    """Batches for evaluation, longest sentences first, so that a memory limit shows at once."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return Batches(lambda place: order[place:][:batch_size], range(0, len(order), batch_size))


def rows(dataset: Dataset, numbers: np.ndarray) -> list[dict[str, Any]]:
    """The rows of a tokenised dataset with these numbers, in their order."""
    columns: Mapping[str, list] = dataset[numbers.tolist()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def collate(sentences: Sequence[Mapping[str, Any]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """A right-padded batch: input_ids, attention_mask and labels (B, T), where labels are -100 at padding."""
    ids = [torch.tensor(sentence["input_ids"]) for sentence in sentences]
    input_ids = pad_sequence(ids, batch_first=True, padding_value=pad_token_id)
    attention_mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    labels = pad_sequence(ids, batch_first=True, padding_value=-100)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
