"""Tokenised sentences, length-grouped batches, and the padding between them."""

import gc
import tracemalloc
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from modeling_seqvae.data.batching import (
    LengthGroupedBatches,
    bytes_read,
    collate,
    in_order_of_length,
    rows,
    sentence_lengths,
    token_counts,
    tokenise,
    unknown_share_of,
)
from modeling_seqvae.data.words import WordReader
from modeling_seqvae.tokenization import train_tokenizer

TEXTS = ["the soup was good .", "", "good", "   ", "the zebra", "good good soup ."]


def lengths_of(count: int, seed: int = 0) -> np.ndarray:
    """Sentence lengths as skewed as real ones: a mean of about 22 tokens, a few above 100."""
    return 2 + np.random.default_rng(seed).geometric(1 / 20, count)


def padding_share(batches: list[np.ndarray], lengths: np.ndarray) -> float:
    read = sum(len(batch) * lengths[batch].max() for batch in batches)
    return 1 - lengths.sum() / read


# Batches of an epoch


SIZES = [(1, 1), (1, 32), (31, 32), (32, 32), (33, 32), (2048, 32), (2049, 32), (5000, 32), (7, 1), (450, 3)]


@pytest.mark.parametrize(("count", "batch_size"), SIZES)
def test_every_sentence_exactly_once_and_one_short_batch_at_most(count: int, batch_size: int) -> None:
    grouped = LengthGroupedBatches(lengths_of(count), batch_size, seed=0)
    batches = grouped.epoch(3)
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    sizes = Counter(map(len, batches))
    full, rest = divmod(count, batch_size)
    assert sizes == Counter({batch_size: full}) + Counter({rest: 1} if rest else {})
    assert len(grouped) == len(batches)


@pytest.mark.parametrize(("count", "batch_size"), [*SIZES, (60_000, 32)])
def test_the_order_is_for_ever(count: int, batch_size: int) -> None:
    """Interrupted runs go on with it, and published figures came from it."""
    lengths = lengths_of(count)
    random = np.random.default_rng((7, 2))
    sentences, number = random.permutation(count), -(-count // batch_size)
    pool_size = min(64, max(1, number // 4)) * batch_size
    pools = [sentences[start : start + pool_size] for start in range(0, count, pool_size)]
    pools = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
    batches = [pool[start : start + batch_size] for pool in pools for start in range(0, len(pool), batch_size)]
    expected = [batches[place].tolist() for place in random.permutation(number)]
    assert [batch.tolist() for batch in LengthGroupedBatches(lengths, batch_size, seed=7).epoch(2)] == expected


def test_an_epoch_can_be_entered_anywhere() -> None:
    batches = LengthGroupedBatches(lengths_of(1000), 8, seed=0).epoch(1)
    listed = [batch.tolist() for batch in batches]
    assert [batch.tolist() for batch in batches[90:]] == listed[90:]
    assert [batch.tolist() for batch in batches[3:100:7]] == listed[3:100:7]
    assert batches[-1].tolist() == listed[-1] and len(batches[125:]) == 0
    with pytest.raises(IndexError):
        batches[125]


def test_an_epoch_of_a_large_corpus_takes_the_memory_of_its_order() -> None:
    grouped = LengthGroupedBatches(np.full(3_000_000, 9, np.int32), 32, seed=0)
    assert grouped.lengths.nbytes == 12_000_000
    tracemalloc.start()
    batches = grouped.epoch(0)[50_000:]
    seen = np.concatenate([batches[place] for place in range(20)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(seen.tolist())) == 640
    assert peak < 1.1 * 8 * (3_000_000 + 93_750)  # the orders of the sentences and of the batches, and a few pools


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    lengths = lengths_of(500)
    grouped = LengthGroupedBatches(lengths, 16, seed=1)
    first = grouped.epoch(4)
    grouped.epoch(0)
    torch.manual_seed(5)
    np.random.seed(5)
    again = LengthGroupedBatches(lengths.tolist(), 16, seed=1).epoch(4)
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in grouped.epoch(4)]
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in again]


def test_other_epochs_and_seeds_give_other_batches() -> None:
    lengths = lengths_of(10_000)
    orders = [LengthGroupedBatches(lengths, 16, seed).epoch(epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1))]
    contents = [{frozenset(batch.tolist()) for batch in batches} for batches in orders]
    for i, one in enumerate(contents):
        for other in contents[:i]:
            assert len(one & other) < 0.05 * len(one)  # not the same batches in another order


def test_even_a_small_corpus_has_other_batches_in_another_epoch() -> None:
    grouped = LengthGroupedBatches(np.arange(3, 503), 32, seed=0)
    first, second = ({frozenset(batch.tolist()) for batch in grouped.epoch(epoch)} for epoch in (0, 1))
    assert not first & second


def test_little_padding_compared_with_random_batches() -> None:
    lengths = lengths_of(10_000)
    grouped = padding_share(LengthGroupedBatches(lengths, 32, seed=0).epoch(0), lengths)
    random_batches = np.split(np.random.default_rng(0).permutation(10_000), 400)  # of 25, which pads less than 32
    assert grouped < 0.1 * padding_share(random_batches, lengths)


def test_short_and_long_batches_come_in_random_order() -> None:
    lengths = lengths_of(10_000)
    means = np.array([lengths[batch].mean() for batch in LengthGroupedBatches(lengths, 32, seed=0).epoch(0)])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2


def test_unusable_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        LengthGroupedBatches([3, 4], 0, seed=0)
    with pytest.raises(ValueError, match="no sentences to train on"):
        LengthGroupedBatches([], 32, seed=0)


def test_evaluation_takes_every_sentence_once_longest_first() -> None:
    lengths = lengths_of(100)
    batches = in_order_of_length(lengths, 7)
    assert [len(batch) for batch in batches] == [7] * 14 + [2]
    in_order = np.concatenate(batches)
    assert sorted(in_order.tolist()) == list(range(100))
    assert (np.diff(lengths[in_order]) <= 0).all()
    assert len(in_order_of_length([], 7)) == 0


# A batch


def test_collate_pads_on_the_right_and_hides_padding_from_the_loss() -> None:
    batch = collate([{"input_ids": [1, 5, 6, 2], "label": 3}, {"input_ids": [1, 2]}, {"input_ids": [1, 7, 2]}], 0)
    assert batch["input_ids"].tolist() == [[1, 5, 6, 2], [1, 2, 0, 0], [1, 7, 2, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert batch["labels"].tolist() == [[1, 5, 6, 2], [1, 2, -100, -100], [1, 7, 2, -100]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_collate_takes_any_padding_token_and_words_that_share_its_id() -> None:
    batch = collate([{"input_ids": [1, 9, 2]}, {"input_ids": [1, 2]}], 9)
    assert batch["input_ids"].tolist() == [[1, 9, 2], [1, 2, 9]]
    assert batch["labels"].tolist() == [[1, 9, 2], [1, 2, -100]]


def test_rows_come_in_the_order_asked_for() -> None:
    dataset = Dataset.from_dict({"input_ids": [[1, i, 2] for i in range(10)], "index": list(range(10))})
    found = rows(dataset, np.array([7, 0, 3]))
    assert found == [{"input_ids": [1, i, 2], "index": i} for i in (7, 0, 3)]


# Tokenising


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["the soup was good ."])


@pytest.fixture
def split() -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    return Dataset.from_dict({"text": TEXTS, "label": [1, 0, 1, 0, 0, 1]}, features=features)


@pytest.fixture
def on_disk(split: Dataset, tmp_path: Path) -> Dataset:
    split.to_parquet(tmp_path / "split.parquet")
    return Dataset.from_parquet(str(tmp_path / "split.parquet"), cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts were read at each time."""
    counts: list[int] = []
    original = WordReader.read

    def counting(self, texts):
        counts.append(len(texts))
        return original(self, texts)

    monkeypatch.setattr(WordReader, "read", counting)
    return counts


def test_white_space_at_the_ends_of_a_text_has_no_bytes(tokenizer, monkeypatch) -> None:
    """As in files, where it is not read: the words and their likelihood are the same without it."""
    rows = Dataset.from_dict({"text": ["the food", "  the food\n", "\u3000\u00a0the food\t ", " "]})
    assert tokenise(rows, tokenizer)["bytes"][:] == [8, 8, 8, 0]
    monkeypatch.setattr(tokenizer, "model_max_length", 3)  # `<s> the </s>`
    assert tokenise(rows, tokenizer)["bytes"][:] == [3, 3, 3, 0]


def test_a_character_has_bytes_where_it_makes_a_token(tokenizer) -> None:
    """Of white space to Python, the separators U+001C to U+001F are words to the tokenizer."""
    characters = [character for character in map(chr, range(0x3100)) if character.isspace()]
    rows = Dataset.from_dict({"text": [f"food {character}" for character in characters]})
    tokenised = tokenise(rows, tokenizer)
    for character, size, length in zip(characters, tokenised["bytes"], tokenised["length"], strict=True):
        assert (size > 4) == (length > 3), ascii(character)
        assert bytes_read([f"food {character}"]) == [size]


def test_sentences_are_numbered_framed_and_keep_their_labels(split: Dataset, tokenizer) -> None:
    tokenised = tokenise(split, tokenizer)
    columns = ["bytes", "cut", "index", "input_ids", "label", "length", "unknown"]
    assert sorted(tokenised.column_names) == columns
    assert tokenised["index"][:] == list(range(len(TEXTS)))
    assert tokenised["label"][:] == [1, 0, 1, 0, 0, 1]
    assert tokenised.features["label"].names == ["bad", "good"]
    assert tokenised["length"][:] == [7, 2, 3, 2, 4, 6]
    unknown = tokenizer.unk_token_id
    for text, ids in zip(TEXTS, tokenised["input_ids"], strict=True):
        words = [tokenizer.get_vocab().get(word, unknown) for word in text.split()]
        assert ids == [1, *words, 2]
    assert tokenised["unknown"][:] == [0, 0, 0, 0, 1, 0]
    assert tokenised["input_ids"][4][2] == unknown  # zebra


def test_what_is_written_is_four_bytes_a_token(split: Dataset, tokenizer) -> None:
    tokenised = tokenise(split, tokenizer)
    assert tokenised.features["input_ids"].feature.dtype == tokenised.features["length"].dtype == "int32"
    lengths = sentence_lengths(tokenised)
    assert lengths.tolist() == [7, 2, 3, 2, 4, 6] and lengths.dtype == np.int32


def test_the_share_of_unknown_words_is_that_of_the_texts(split: Dataset, tokenizer) -> None:
    assert unknown_share_of(tokenise(split, tokenizer)) == 1 / 12
    assert unknown_share_of(tokenise(split.select([1]), tokenizer)) == 0


def test_sentences_without_words_are_kept(split: Dataset, tokenizer) -> None:
    tokenised = tokenise(split, tokenizer)
    assert len(tokenised) == len(TEXTS)
    assert [tokenised["input_ids"][i] for i in (1, 3)] == [[1, 2], [1, 2]]


def test_tokenising_twice_works_once(on_disk: Dataset, tokenizer, calls: list[int]) -> None:
    first = tokenise(on_disk, tokenizer)
    assert sum(calls) == len(TEXTS)
    second = tokenise(on_disk, tokenizer)
    assert sum(calls) == len(TEXTS)
    assert second[:] == first[:]


def test_a_reloaded_corpus_and_tokenizer_find_the_work_done(
    on_disk: Dataset, tokenizer, tmp_path: Path, calls: list[int]
) -> None:
    tokenise(on_disk, tokenizer)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    again = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    tokenise(Dataset.from_parquet(str(tmp_path / "split.parquet"), cache_dir=str(tmp_path / "cache")), again)
    assert sum(calls) == len(TEXTS)


def test_padding_that_a_tokenizer_was_used_with_changes_nothing(on_disk: Dataset, calls: list[int]) -> None:
    tokenizer = train_tokenizer(["the soup was good ."])
    first = tokenise(on_disk, tokenizer)
    tokenizer(["the", "the soup"], padding=True, truncation=True, max_length=3)
    calls.clear()
    assert tokenise(on_disk, tokenizer)[:] == first[:]
    assert calls == []


def test_another_tokenizer_or_text_is_tokenised_anew(on_disk: Dataset, tokenizer) -> None:
    first = tokenise(on_disk, tokenizer)
    other = tokenise(on_disk, train_tokenizer(["soup good the zebra"]))
    assert other["input_ids"][4] != first["input_ids"][4]
    fewer = tokenise(on_disk.select([4, 0]), tokenizer)
    assert fewer["input_ids"][:] == [first["input_ids"][4], first["input_ids"][0]]
    assert fewer["index"][:] == [0, 1]


def test_predicted_tokens_are_counted_without_the_start_of_each_sentence(split: Dataset, tokenizer) -> None:
    tokenised = tokenise(split, tokenizer)
    expected = np.zeros(len(tokenizer), int)
    for sentence in tokenised["input_ids"]:
        for token in sentence[1:]:
            expected[token] += 1
    assert token_counts(tokenised, len(tokenizer)).tolist() == expected.tolist()
    assert expected[tokenizer.eos_token_id] == len(TEXTS) and expected[tokenizer.bos_token_id] == 0


def test_a_split_in_memory_is_tokenised_once_and_forgotten_with_it(split: Dataset, tokenizer, calls: list[int]) -> None:
    first = tokenise(split, tokenizer)
    assert tokenise(split, tokenizer) is first and sum(calls) == len(TEXTS)
    assert tokenise(split, train_tokenizer(["soup good the zebra"]))["input_ids"][4] != first["input_ids"][4]
    again = Dataset.from_dict({"text": TEXTS})
    made = weakref.ref(tokenise(again, tokenizer))
    del again
    gc.collect()
    assert made() is None
