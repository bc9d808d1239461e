"""A file of features is the same however it came about."""

import json
import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from accelerate.state import AcceleratorState
from datasets import Dataset

from modeling_seqvae import SeqVAE
from modeling_seqvae.data.columns import identity_of
from modeling_seqvae.evaluation import encoding as module
from modeling_seqvae.evaluation import shards
from modeling_seqvae.evaluation.encoding import SUFFIXES, encode_to_file, require_suffix, write_features
from modeling_seqvae.evaluation.scoring import score_to_file

FEATURES = np.array([[0.1, -2.0, 1e-20], [3.0, 4.5, 1e20]], np.float32)
BLOCKS = [FEATURES[:1], FEATURES[1:]]
NAMES = ["mean_0", "mean_1", "variance_0"]
READERS = {
    ".npy": np.load,
    ".csv": pd.read_csv,
    ".parquet": pd.read_parquet,
    ".jsonl": partial(pd.read_json, lines=True),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
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


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_texts_give_a_file_with_columns_and_no_rows(tmp_path, suffix):
    write_features([], NAMES, 0, tmp_path / f"none{suffix}")
    assert READERS[suffix](tmp_path / f"none{suffix}").shape == ((0, 0) if suffix == ".jsonl" else (0, 3))


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
    def fail(blocks, size, rows, path):
        path.write_text("half")
        raise OSError("no space left on device")

    path = tmp_path / "features.npy"
    write_features(BLOCKS, NAMES, 2, path)
    before = path.read_bytes()
    monkeypatch.setattr(module, "_write_npy", fail)
    with pytest.raises(OSError, match="no space left"):
        write_features(BLOCKS, NAMES, 2, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "model_cards" / "demo-max-pool"
WORDS = ("the", "soup", "was", "warm", "staff", "room", "cold", "friendly")
TEXTS = [" ".join(WORDS[(i * k) % 8] for k in range(1, 2 + i % 9)) for i in range(23)]
SHARD = 5


@pytest.fixture(autouse=True)
def _one_process():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def vae() -> SeqVAE:
    return SeqVAE.from_pretrained(CHECKPOINT)


@pytest.fixture
def rows() -> Dataset:
    return Dataset.from_dict({"text": TEXTS})


@pytest.fixture
def spy(vae, monkeypatch):
    """Texts of each call of `encode`; a call with the number in `dies_at` is the last."""
    calls, encode = [], vae.encode

    def spied(texts, *arguments):
        if len(texts) and len(calls) == spied.dies_at:
            raise KeyboardInterrupt
        calls.extend([texts] if len(texts) else [])
        return encode(texts, *arguments)

    spied.dies_at = None
    spied.calls = calls
    monkeypatch.setattr(vae, "encode", spied)
    return spied


@pytest.mark.parametrize("suffix, read", [(".npy", np.load), (".csv", pd.read_csv), (".parquet", pd.read_parquet)])
@pytest.mark.parametrize("features", ["mean_variance", "pooled"])
def test_the_file_holds_what_encode_gives_in_order(vae, rows, tmp_path, suffix, read, features):
    output = tmp_path / "below" / f"features{suffix}"
    encode_to_file(vae, rows, output, features, shard_rows=SHARD)
    np.testing.assert_allclose(np.asarray(read(output)), vae.encode(TEXTS, features), atol=1e-5)
    assert list(output.parent.iterdir()) == [output]
    if suffix != ".npy":
        assert list(read(output).columns) == vae.feature_names(features)


def test_no_more_than_a_shard_is_encoded_at_a_time(vae, rows, tmp_path, spy):
    encode_to_file(vae, rows, str(tmp_path / "a.npy"), shard_rows=SHARD)
    assert [len(texts) for texts in spy.calls] == [5, 5, 5, 5, 3]


@pytest.mark.parametrize("dies_at", [0, 2, 4])
def test_after_an_interruption_the_rest_is_encoded_and_the_file_is_the_same(vae, rows, tmp_path, spy, dies_at):
    encode_to_file(vae, rows, tmp_path / "whole.parquet", shard_rows=SHARD)
    spy.calls.clear()
    spy.dies_at = dies_at
    with pytest.raises(KeyboardInterrupt):
        encode_to_file(vae, rows, tmp_path / "broken.parquet", shard_rows=SHARD)
    assert not (tmp_path / "broken.parquet").exists()
    spy.dies_at = None
    encode_to_file(vae, rows, tmp_path / "broken.parquet", shard_rows=SHARD)
    assert [text for texts in spy.calls for text in texts] == TEXTS
    assert (tmp_path / "broken.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"broken.parquet", "whole.parquet"}


@pytest.mark.parametrize("leftover", [".000000000005.new.npy", ".job.new.json"])
def test_what_a_kill_left_half_written_is_not_used(vae, rows, tmp_path, leftover):
    folder = tmp_path / "a.npy.parts"
    folder.mkdir()
    (folder / leftover).write_bytes(b"half")
    encode_to_file(vae, rows, tmp_path / "a.npy", shard_rows=SHARD)
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), vae.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    "change, named",
    [("texts", "texts"), ("rows", "texts and rows"), ("model", "model"), ("features", "features"), ("size", "shard_")],
)
def test_shards_of_another_job_are_not_continued(vae, rows, tmp_path, spy, change, named):
    spy.dies_at = 1
    with pytest.raises(KeyboardInterrupt):
        encode_to_file(vae, rows, tmp_path / "a.npy", shard_rows=SHARD)
    spy.dies_at = None
    kept = sorted((tmp_path / "a.npy.parts").iterdir())
    if change == "texts":
        rows = Dataset.from_dict({"text": [*TEXTS[:-1], "another"]})
    if change == "rows":
        rows = Dataset.from_dict({"text": TEXTS[:-1]})
    if change == "model":
        next(vae.model.parameters()).data[0, 0] += 1
    features = "mean" if change == "features" else "mean_variance"
    size = 6 if change == "size" else SHARD
    with pytest.raises(ValueError, match=f"unfinished job with other {named}"):
        encode_to_file(vae, rows, tmp_path / "a.npy", features, shard_rows=size)
    assert sorted((tmp_path / "a.npy.parts").iterdir()) == kept


def test_a_model_loaded_again_from_elsewhere_continues(vae, rows, tmp_path, spy):
    spy.dies_at = 3
    with pytest.raises(KeyboardInterrupt):
        encode_to_file(vae, rows, tmp_path / "a.npy", shard_rows=SHARD)
    vae.save_pretrained(tmp_path / "copy")
    encode_to_file(SeqVAE.from_pretrained(tmp_path / "copy"), rows, tmp_path / "a.npy", shard_rows=SHARD)
    assert len(np.load(tmp_path / "a.npy")) == len(TEXTS)


def test_a_folder_with_other_things_is_left_alone(vae, rows, tmp_path):
    (tmp_path / "a.npy.parts").mkdir()
    (tmp_path / "a.npy.parts" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other things"):
        encode_to_file(vae, rows, tmp_path / "a.npy")
    assert (tmp_path / "a.npy.parts" / "thesis.txt").read_text() == "mine"


def test_texts_that_a_table_leaves_out_are_sentences_without_words(vae, tmp_path):
    encode_to_file(vae, Dataset.from_dict({"text": ["the soup", None, ""]}), tmp_path / "a.npy")
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), vae.encode(["the soup", "", ""]), atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "error", "match"),
    [
        (["the soup"], TypeError, "must be a datasets.Dataset with a column text, got list"),
        (
            Dataset.from_dict({"review": ["the soup"], "id": [1]}),
            ValueError,
            "no column 'text'; the columns are review, id",
        ),
        (Dataset.from_dict({"text": [3, 4]}), ValueError, "'text' must be of strings, and is of int64"),
    ],
)
def test_rows_that_hold_no_texts_are_refused(vae, tmp_path, rows, error, match):
    for write in (encode_to_file, score_to_file):
        with pytest.raises(error, match=match):
            write(vae, rows, tmp_path / "a.parquet")
    with pytest.raises(error, match=match.partition(",")[0]):
        identity_of(rows)
    assert not list(tmp_path.iterdir())


def test_columns_of_the_rows_stand_before_the_features(vae, tmp_path):
    rows = Dataset.from_dict({"text": TEXTS, "id": list(range(23)), "stars": [f"0{i}" for i in range(23)]})
    encode_to_file(vae, rows, tmp_path / "a.parquet", "mean", shard_rows=SHARD, keep=["stars", "id"])
    found = pd.read_parquet(tmp_path / "a.parquet")
    assert list(found.columns) == ["stars", "id", *vae.feature_names("mean")]
    assert list(found["stars"]) == rows["stars"][:] and list(found["id"]) == rows["id"][:]
    np.testing.assert_allclose(found[vae.feature_names("mean")], vae.encode(TEXTS, "mean"), atol=1e-5)
    with pytest.raises(ValueError, match="an array of numbers, which keeps no columns"):
        encode_to_file(vae, rows, tmp_path / "a.npy", keep=["id"])
    with pytest.raises(ValueError, match=r"has a column 'mean_1', .* rename it"):
        encode_to_file(vae, rows.rename_column("id", "mean_1"), tmp_path / "b.csv", keep=["mean_1"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_unknown_words_are_warned_of_once(vae, tmp_path):
    rows = Dataset.from_dict({"text": ["xyzzy plugh", "xyzzy the", "xyzzy"] * 4})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        encode_to_file(vae, rows, tmp_path / "a.npy", shard_rows=2)
    assert len([warning for warning in caught if "not in the model's vocabulary" in str(warning.message)]) == 1


def test_a_full_disk_is_told_and_what_is_done_is_kept(vae, rows, tmp_path, monkeypatch):
    def full(*unused):
        raise OSError(28, "No space left on device")

    (tmp_path / "a.npy").write_text("before")
    monkeypatch.setattr("modeling_seqvae.evaluation.encoding.write_features", full)
    with pytest.raises(OSError, match=r"could not write .*a.npy .*No space left"):
        encode_to_file(vae, rows, tmp_path / "a.npy", shard_rows=SHARD)
    assert (tmp_path / "a.npy").read_text() == "before"
    assert len(list((tmp_path / "a.npy.parts").glob("*.npy"))) == 5


PROGRAM = """
import sys
from pathlib import Path
from accelerate import PartialState
from modeling_seqvae.cli import app
from modeling_seqvae.evaluation import encoding, scoring, shards

encoding.encode_to_file.__kwdefaults__["shard_rows"] = 5
scoring.score_to_file.__kwdefaults__["shard_rows"] = 5
saved = []
save = shards.save
shards.save = lambda encoded, path: (saved.append(path.name), save(encoded, path))
try:
    app(sys.argv[2:])
finally:
    Path(sys.argv[1], f"{PartialState().process_index}-of-{PartialState().num_processes}").write_text(" ".join(saved))
"""


@pytest.mark.parametrize("command", ["encode", "score"])
def test_two_processes_share_the_work_and_write_the_file_of_one(vae, rows, tmp_path, command):
    if command == "encode":
        encode_to_file(vae, rows, tmp_path / "one.parquet", shard_rows=SHARD, keep=["text"])
    else:
        score_to_file(vae, rows, tmp_path / "one.parquet", shard_rows=SHARD, keep=["text"])
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "seen").mkdir()
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    arguments = [command, str(CHECKPOINT), "texts.jsonl", "-o", "two.parquet", "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, "program.py", "seen", *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = {path.name: path.read_text().split() for path in (tmp_path / "seen").iterdir()}
    assert seen == {
        "0-of-2": [f"{start:012d}.npy" for start in (0, 10, 20)],
        "1-of-2": [f"{start:012d}.npy" for start in (5, 15)],
    }
    assert (tmp_path / "two.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert not (tmp_path / "two.parquet.parts").exists()
    assert done.stderr.count(f"23 texts {command.rstrip('e')}ed") == done.stderr.count(": two.parquet") == 1


@pytest.mark.parametrize("write", [encode_to_file, score_to_file])
def test_a_second_call_does_not_write_the_same_file(vae, rows, tmp_path, write, monkeypatch):
    """The one whose shards it would mix with, remove, or read half written, goes on undisturbed."""
    output, refused = tmp_path / "a.csv", []
    save = shards.save

    def beside(computed, path):
        if not refused:
            with pytest.raises(RuntimeError, match=f"another process is writing {output}: wait for it") as error:
                write(vae, rows, output, shard_rows=SHARD)
            refused.append(error)
        save(computed, path)

    monkeypatch.setattr(shards, "save", beside)
    write(vae, rows, output, shard_rows=SHARD)
    assert refused and len(pd.read_csv(output)) == len(TEXTS) and list(tmp_path.iterdir()) == [output]
