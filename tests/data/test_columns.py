"""Columns read piece by piece are the columns."""

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value

from modeling_seqvae.data.columns import array_of, arrays_of, identity_of, texts_of


@pytest.fixture(params=["whole", "slice", "selection"])
def rows(request: pytest.FixtureRequest) -> Dataset:
    whole = Dataset.from_dict({"text": [f"text {i}" for i in range(3000)], "length": [i % 7 for i in range(3000)]})
    parts = {"whole": range(3000), "slice": range(10, 2500), "selection": [2999, 0, 5, 5]}
    return whole.select(parts[request.param])


def test_texts_come_in_order(rows: Dataset) -> None:
    assert list(texts_of(rows)) == rows["text"][:]


def test_numbers_come_in_order(rows: Dataset) -> None:
    assert np.concatenate(list(arrays_of(rows, "length"))).tolist() == rows["length"][:]
    array = array_of(rows, "length")
    assert array.tolist() == rows["length"][:] and array.dtype == np.int32


def test_no_rows() -> None:
    nothing = Dataset.from_dict({"text": [], "length": []})
    assert list(texts_of(nothing)) == [] and array_of(nothing, "length").tolist() == []


def test_texts_are_known_by_every_character_and_their_order() -> None:
    texts = [f"text {i} \u00e9" for i in range(12_000)]
    known = identity_of(Dataset.from_dict({"text": texts}))
    assert known.documents == 12_000 and len(known.sha256) == 64
    order = range(11_999, -1, -1)
    backwards = Dataset.from_dict({"text": texts, "label": [0] * 12_000}).select(order)
    assert identity_of(backwards.select(order)) == known != identity_of(backwards)
    for other in ([*texts, ""], texts[:-1], [texts[0] + texts[1][:1], texts[1][1:], *texts[2:]]):
        assert identity_of(Dataset.from_dict({"text": other})).sha256 != known.sha256


def test_tokens_are_known_by_their_numbers() -> None:
    features = [Features({"input_ids": List(Value(kind))}) for kind in ("int32", "int64")]
    same = [identity_of(Dataset.from_dict({"input_ids": [[1, 5, 2], [1, 2]]}, kind)) for kind in features]
    assert same[0] == same[1] != identity_of(Dataset.from_dict({"input_ids": [[1, 5], [2, 1, 2]]}))
