import numpy as np
import pandas as pd
import pytest

from modeling_seqvae.evaluation import features as module
from modeling_seqvae.evaluation.features import WRITERS, require_suffix, write_features

FEATURES = np.array([[0.1, -2.0, 1e-20], [3.0, 4.5, 1e20]], np.float32)
BLOCKS = [FEATURES[:1], FEATURES[1:]]
NAMES = ["mean_0", "mean_1", "variance_0"]
READERS = {".npy": np.load, ".csv": pd.read_csv, ".parquet": pd.read_parquet}


@pytest.mark.parametrize("suffix", WRITERS)
def test_what_is_written_is_read(tmp_path, suffix):
    path = tmp_path / "below" / f"features{suffix}"
    write_features(BLOCKS, NAMES, 2, path)
    read = READERS[suffix](path)
    np.testing.assert_allclose(np.asarray(read, np.float32), FEATURES, rtol=1e-6)
    if suffix != ".npy":
        assert list(read.columns) == NAMES
    assert list(path.parent.iterdir()) == [path]


def test_arrays_and_parquet_keep_single_precision(tmp_path):
    write_features(BLOCKS, NAMES, 2, tmp_path / "a.npy")
    write_features(BLOCKS, NAMES, 2, tmp_path / "a.parquet")
    assert np.load(tmp_path / "a.npy").dtype == np.float32
    assert set(pd.read_parquet(tmp_path / "a.parquet").dtypes) == {np.dtype(np.float32)}


@pytest.mark.parametrize("suffix", WRITERS)
def test_no_texts_give_a_file_with_columns_and_no_rows(tmp_path, suffix):
    write_features([], NAMES, 0, tmp_path / f"none{suffix}")
    assert READERS[suffix](tmp_path / f"none{suffix}").shape == (0, 3)


@pytest.mark.parametrize("suffix", [".NPY", ".Csv", ".PARQUET"])
def test_a_suffix_in_capitals_is_that_suffix(tmp_path, suffix):
    path = tmp_path / f"features{suffix}"
    write_features(BLOCKS, NAMES, 2, path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert READERS[suffix.lower()](path).shape == (2, 3)


@pytest.mark.parametrize("name", ["features.xlsx", "features", "features.npy.gz", ".npy"])
def test_other_suffixes_are_refused_with_those_there_are(tmp_path, name):
    with pytest.raises(ValueError, match=r"\.npy, \.csv, \.parquet"):
        write_features(BLOCKS, NAMES, 2, tmp_path / name)
    with pytest.raises(ValueError, match=name):
        require_suffix(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_appears_whole_or_not(tmp_path, monkeypatch):
    def fail(blocks, names, rows, path):
        path.write_text("half")
        raise OSError("no space left on device")

    path = tmp_path / "features.npy"
    write_features(BLOCKS, NAMES, 2, path)
    before = path.read_bytes()
    monkeypatch.setitem(module.WRITERS, ".npy", fail)
    with pytest.raises(OSError, match="no space left"):
        write_features(BLOCKS, NAMES, 2, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
