"""The commands `classify` and `encode` beyond what test_cli.py says of every command."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from accelerate.state import AcceleratorState
from typer.testing import CliRunner

from modeling_seqvae import SeqVAE
from modeling_seqvae.cli import app

CHECKPOINT = str(Path(__file__).resolve().parents[1] / "model_cards" / "demo-max-pool")
GOOD, BAD = ["great", "lovely", "warm"], ["slow", "cold", "bland"]
ROWS = [(f"the food was {a} and {b}", label) for label, w in (("pos", GOOD), ("neg", BAD)) for a in w for b in w] * 5


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def invoke(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"}, prog_name="seqvae")
    assert result.exit_code == code, f"{result.exit_code}\n{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def table(rows=ROWS) -> None:
    Path("reviews.csv").write_text("review,stars\n" + "".join(f"{text},{label}\n" for text, label in rows))


OWN = ("--corpus", "reviews.csv", "--text-column", "review", "--label-column", "stars", "-o", "report")


def test_from_a_csv_to_a_report():
    table()
    result = invoke("classify", CHECKPOINT, *OWN)
    report = json.loads(Path("report/report.json").read_text())
    assert report["classes"] == ["neg", "pos"]
    assert [system["classifier"] for system in report["systems"]] == [
        "logistic regression", "MLP", "logistic regression", "majority class",
    ]  # fmt: skip
    assert "majority class" in result.stdout and "macro-F1" in result.stdout
    assert result.stdout.count("\n") < 12 and "report.md" in result.stderr
    text = Path("report/report.md").read_text()
    assert "true \\ predicted" in text and str(Path(CHECKPOINT)) in text
    assert ("confusion.png" in text) == Path("report/confusion.png").exists()


@pytest.mark.parametrize("taken", ["cache", "cache/below"], ids=["file", "below a file"])
@pytest.mark.parametrize(
    "command",
    [
        ("score", CHECKPOINT, "texts.txt", "-o", "nll.csv"),
        ("encode", CHECKPOINT, "texts.txt", "-o", "features.npy"),
        ("reconstruct", CHECKPOINT, "-i", "texts.txt"),
        ("neighbours", CHECKPOINT, "texts.txt", "the food"),
        ("edit", CHECKPOINT, "the food", "--examples", "reviews.csv", "--text-column", "review",
         "--label-column", "stars", "--towards", "pos"),
        ("classify", CHECKPOINT, *OWN),
        ("evaluate", CHECKPOINT, "--corpus", "texts.txt"),
        ("train", "--corpus", "texts.txt", "--output-dir", "run"),
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_every_command_explains_a_cache_that_cannot_be_written(command, taken, tmp_path, monkeypatch):
    table()
    Path("texts.txt").write_text("".join(f"{text}\n" for text, _ in ROWS))
    (tmp_path / "cache").write_text("a file, where a folder would have to be")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / taken)
    told = invoke(*command, code=1).stderr
    assert f"{tmp_path / taken}, cannot be written" in told and "set HF_DATASETS_CACHE or HF_HOME" in told


def test_several_checkpoints_are_compared(tmp_path):
    table()
    SeqVAE.from_pretrained(CHECKPOINT).save_pretrained("copy")
    invoke("classify", CHECKPOINT, "copy", *OWN, "--features", "mean", "--limit", "train=40")
    systems = json.loads(Path("report/report.json").read_text())["systems"]
    assert [system["features"] for system in systems] == [CHECKPOINT, CHECKPOINT, "copy", "copy", "TF-IDF", "none"]
    assert systems[0]["confusion"] == systems[2]["confusion"]


def test_without_matplotlib_the_picture_alone_is_left_out(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    table()
    assert "confusion.png is left out: figures need matplotlib" in invoke("classify", CHECKPOINT, *OWN).stderr
    assert {path.name for path in Path("report").iterdir()} == {"report.md", "report.json"}


@pytest.mark.parametrize(
    "rows, told",
    [
        ([(text, "pos") for text, _ in ROWS], "all have the label 'pos'"),
        ([("", label) for _, label in ROWS], "holds no documents"),
        ([*ROWS[:5], ("the food", "")], "has no label"),
    ],
    ids=["one class", "empty texts", "no label in a row"],
)
def test_what_cannot_be_classified_ends_in_a_sentence(rows, told):
    table(rows)
    result = invoke("classify", CHECKPOINT, *OWN, code=1)
    assert told in result.stderr.splitlines()[-1] and not Path("report").exists()


def test_a_corpus_without_labels_and_a_checkpoint_given_twice_are_refused():
    table()
    unlabelled = ("--corpus", "reviews.csv", "--text-column", "review", "-o", "report")
    assert "--label-column" in invoke("classify", CHECKPOINT, *unlabelled, code=1).stderr
    assert "given twice" in invoke("classify", CHECKPOINT, CHECKPOINT, *OWN, code=1).stderr


@pytest.mark.parametrize("features", ["mean", "centre"])
def test_encode_continues_what_was_interrupted(monkeypatch, features):
    Path("texts.txt").write_text("".join(f"{text}\n" for text, _ in ROWS))
    command = ("encode", CHECKPOINT, "texts.txt", "-o", "z.npy", "--features", features)

    def killed(*unused):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("modeling_seqvae.evaluation.encoding.write_features", killed)
        assert "goes on from here" in invoke(*command, code=1).stderr
    assert Path("z.npy.parts").is_dir() and not Path("z.npy").exists()
    with monkeypatch.context() as patched:
        patched.setattr("modeling_seqvae.evaluation.shards.save", killed)  # nothing is left to encode
        invoke(*command)
    texts = [text for text, _ in ROWS]
    expected = SeqVAE.from_pretrained(CHECKPOINT).encode(texts, features)
    np.testing.assert_allclose(np.load("z.npy"), expected, atol=1e-5)
    assert not Path("z.npy.parts").exists()


def test_the_file_that_is_read_is_not_written_over():
    table()
    before = Path("reviews.csv").read_bytes()
    Path("again.csv").symlink_to("reviews.csv")
    column = ("--text-column", "review")
    for command in (
        ("encode", CHECKPOINT, "reviews.csv", "-o", "reviews.csv", "--no-keep", *column),
        ("score", CHECKPOINT, "reviews.csv", "-o", "again.csv", *column),
        ("score", CHECKPOINT, "again.csv", "-o", "./reviews.csv", *column),
        ("evaluate", CHECKPOINT, "--corpus", "reviews.csv", "--output", "reviews.csv", *column),
    ):
        assert "is the file that is read, and would be lost" in invoke(*command, code=1).stderr
    Path("others.csv").write_bytes(before)
    invoke("score", CHECKPOINT, "others.csv", "-o", "reviews.csv", "--reference", "reviews.csv", *column, code=1)
    assert Path("reviews.csv").read_bytes() == before
