"""Tokenised datasets and length-grouped batches whose order is a pure function of (seed, epoch)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

POOL_BATCHES = 64
"""Batches' worth of random sentences that are sorted by length together, at most: little padding, random batches."""
MIN_POOLS = 4


def tokenise(split: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """The split with `input_ids`, `length` (tokens) and `index` (sentence number) in place of `text`.

    A split that lies on disk is tokenised once: `datasets` caches the result beside it, by a fingerprint of the split
    and the tokenizer.
    """

    def encode(batch: dict[str, list], index: list[int]) -> dict[str, list]:
        input_ids = tokenizer(batch["text"], return_attention_mask=False)["input_ids"]
        return {"input_ids": input_ids, "length": [len(ids) for ids in input_ids], "index": index}

    return split.map(
        encode,
        batched=True,
        with_indices=True,
        remove_columns=["text"],
        new_fingerprint=_fingerprint(split, tokenizer),
        desc="tokenising",
    )


def _fingerprint(split: Dataset, tokenizer: PreTrainedTokenizerBase) -> str:
    pieces = json.loads(tokenizer.backend_tokenizer.to_str())
    del pieces["padding"], pieces["truncation"]  # those of whatever call came last
    return hashlib.sha256((split._fingerprint + json.dumps(pieces)).encode()).hexdigest()[:16]


class LengthGroupedBatches:
    """Batches of sentences of similar length: every sentence once an epoch, none wasted, one short batch at most.

    The order depends on (seed, epoch) alone, so that a resumed or distributed run reads the same batches. Sorting is
    within random pools, of which even a small corpus has `MIN_POOLS`: one pool would be the same batches every epoch.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int):
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if len(self.lengths) == 0:
            raise ValueError("there are no sentences to train on")

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """The sentence numbers of each batch of an epoch, in order."""
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(len(self.lengths))
        pool_size = min(POOL_BATCHES, max(1, len(self) // MIN_POOLS)) * self.batch_size
        batches = []
        for start in range(0, len(order), pool_size):
            pool = order[start : start + pool_size]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
        return [batches[i] for i in random.permutation(len(batches))]


def in_order_of_length(lengths: Sequence[int] | np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Batches for evaluation, longest sentences first, so that a memory limit shows at once."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


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
