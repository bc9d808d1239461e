"""Sets split off from the training documents: nothing is lost, nothing is twice, and the rest keeps its order."""

import numpy as np
import pytest
from datasets import Dataset

from modeling_seqvae.data import splitting
from modeling_seqvae.data.cleaning import Cleaned
from modeling_seqvae.data.splitting import split_off


def documents(count: int) -> dict[str, Cleaned]:
    rows = Dataset.from_dict({"text": [f"document {i}" for i in range(count)], "row": list(range(count))})
    return {"train": Cleaned(rows, "a.txt", "line", 3, None)}


def numbers(split: Cleaned) -> list[int]:
    return split.rows["row"][:]


@pytest.mark.parametrize("missing", [("test",), ("validation", "test")])
@pytest.mark.parametrize("count", [3, 40, 4321])
def test_every_document_is_in_one_split_in_the_order_of_the_file(count, missing) -> None:
    splits = documents(count)
    split_off(splits, missing)
    assert set(splits) == {"train", *missing}
    assert sorted(number for split in splits.values() for number in numbers(split)) == list(range(count))
    assert all(numbers(split) == sorted(numbers(split)) for split in splits.values())
    assert {len(splits[name].rows) for name in missing} == {max(1, round(count / 20))}
    assert [splits[name].empty for name in ("train", *missing)] == [3] + [0] * len(missing)


def test_the_documents_are_those_of_a_seeded_permutation() -> None:
    splits = documents(100)
    split_off(splits, ["validation", "test"])
    permutation = np.random.default_rng(0).permutation(100)
    assert numbers(splits["validation"]) == sorted(permutation[:5])
    assert numbers(splits["test"]) == sorted(permutation[5:10])


def test_a_large_corpus_gives_no_more_than_some_thousands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "MOST", 7)
    splits = documents(1000)
    assert "7 for validation and 7 for test" in split_off(splits, ["validation", "test"])
    assert [len(split.rows) for split in splits.values()] == [986, 7, 7]
