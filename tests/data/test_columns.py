"""Columns read piece by piece are the columns."""

import numpy as np
import pytest
from datasets import Dataset

from modeling_seqvae.data.columns import array_of, arrays_of, texts_of


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
