"""Every command reads a file as the training corpus of its model was read, and says the same of it."""

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from accelerate.state import AcceleratorState
from typer.testing import CliRunner

from modeling_seqvae import SeqVAE
from modeling_seqvae.cli import app

PRESET = """
model: {embedding_size: 6, hidden_size: 8, latent_size: 3, initializer_range: 0.5}
training: {batch_size: 8, epochs: 1, learning_rate: 0.1}
"""
WORDS = ["the", "a", "food", "room", "staff", "was", "seemed", "good", "bad", "cold", "slow", "and", "very", "."]
QUICK = ("--nll-samples", "3")


def invoke(*arguments: str, code: int = 0, stdin: str | bytes | None = None):
    """The result of a command that must end with this exit code, and never with a traceback."""
    result = CliRunner().invoke(app, arguments, input=stdin, env={"COLUMNS": "80"}, prog_name="seqvae")
    assert result.exit_code == code, f"{result.exit_code}\n{result.stdout}\n{result.stderr}\n{result.exception!r}"
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def texts(count: int, seed: int = 0) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=source.randint(3, 9))) for _ in range(count)]


TEXTS = texts(20, seed=1)
LABELS = [str(1 + i % 2) for i in range(20)]
TRAIN = ("train", "--training", "preset.yaml", "--set", "corpus.max_words=6", "--set", "corpus.min_frequency=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on lines, on labelled lines and on a table, and the same twenty texts in every format."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "preset.yaml").write_text(PRESET)
    many = texts(60)
    (folder / "lines.txt").write_text("".join(f"{text}\n" for text in many))
    (folder / "labelled.txt").write_text("".join(f"{i % 2}\t{text}\n" for i, text in enumerate(many)))
    pd.DataFrame({"review": many, "text": "boring"}).to_csv(folder / "table.csv", index=False)
    table = pd.DataFrame({"review": TEXTS, "text": "boring", "label": [float(label) for label in LABELS]})
    table.to_csv(folder / "new.csv", index=False)
    table.to_csv(folder / "new.tsv", index=False, sep="\t")
    table.to_json(folder / "new.jsonl", orient="records", lines=True)
    table.to_json(folder / "new.json", orient="records")
    table.to_parquet(folder / "new.parquet")
    (folder / "new.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    pairs = zip(LABELS, TEXTS, strict=True)
    (folder / "tabs.txt").write_text("".join(f"{label}.0\t{text}\n" for label, text in pairs))
    former = Path.cwd()
    os.chdir(folder)
    try:
        invoke(*TRAIN, "--corpus", "lines.txt", "--output-dir", "on-lines")
        invoke(*TRAIN, "--corpus", "labelled.txt", "--label-column", "label", "--output-dir", "on-labels")
        invoke(*TRAIN, "--corpus", "table.csv", "--text-column", "review", "--output-dir", "on-table")
    finally:
        os.chdir(former)
    for name in ("bare", "shared"):
        shutil.copytree(folder / "on-labels" / "best", folder / name)
    shutil.copy(folder / "on-labels" / "recipe.yaml", folder / "shared")
    return folder


@pytest.fixture(autouse=True)
def _in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def told(result) -> str:
    """What is said of the texts that were read, without the name of the file or the split."""
    (line,) = (line for line in result.stderr.splitlines() if "documents, " in line)
    return line.partition(": ")[2]


def read_by_all(checkpoint: str, file: str, *options: str) -> str:
    """What all commands say of a file, once it is certain that they read the texts, and the same words of each."""
    cut = [" ".join(text.split()[:6]) for text in TEXTS]
    vae = SeqVAE.from_pretrained(Path(checkpoint, "best") if Path(checkpoint, "best").is_dir() else checkpoint)
    encoded = invoke("encode", checkpoint, file, "-o", "z.npy", *options)
    np.testing.assert_allclose(np.load("z.npy"), vae.encode(cut), atol=1e-5)
    np.testing.assert_allclose(np.load("z.npy"), quietly(vae.encode, TEXTS), atol=1e-5)  # from Python as well
    scored = invoke("score", checkpoint, file, "-o", "nll.csv", *QUICK, *options)
    expected = vae.nll(cut, 3)
    np.testing.assert_allclose(pd.read_csv("nll.csv")["nll"], expected, rtol=1e-5)
    written = invoke("reconstruct", checkpoint, "--input", file, *options)
    assert written.stdout.splitlines() == vae.reconstruct(cut)
    nearest = invoke("neighbours", checkpoint, file, TEXTS[3], "-k", "1", *options)
    assert nearest.stdout.split("\t")[2] == f"{cut[TEXTS.index(TEXTS[3])]}\n"
    measured = invoke("evaluate", checkpoint, "--corpus", file, *QUICK, "-o", "figures.json", *options)
    figures = json.loads(Path("figures.json").read_text())
    assert figures["sentences"] == 20 and figures["split"] == "test" and Path(figures["file"]).name == file
    assert "all of the file is the test set, 20 sentences" in " ".join(measured.stdout.split())
    (one,) = {told(result) for result in (encoded, scored, written, nearest, measured)}
    return one


def quietly(function, *arguments):
    with pytest.warns(UserWarning, match="were cut there"):
        return function(*arguments)


CUT = sum(len(text.split()) > 6 for text in TEXTS)


@pytest.mark.parametrize(
    ("checkpoint", "file", "options", "said"),
    [
        ("on-lines", "new.txt", (), ""),
        ("on-lines", "tabs.txt", ("--label-column", "label"), "label<TAB>text"),
        ("on-labels", "new.txt", (), ""),
        ("on-labels", "tabs.txt", (), "label<TAB>text"),
        ("on-labels/best", "tabs.txt", (), "label<TAB>text"),
        ("shared", "tabs.txt", (), "label<TAB>text"),
        ("bare", "new.txt", (), ""),
        ("bare", "tabs.txt", ("--label-column", "label"), "label<TAB>text"),
        ("on-table", "new.txt", (), ""),
        ("on-table", "new.csv", (), ""),
        ("on-table", "new.tsv", (), ""),
        ("on-table", "new.jsonl", (), ""),
        ("on-table", "new.json", (), ""),
        ("on-table", "new.parquet", (), ""),
        ("on-labels", "new.csv", ("--text-column", "review"), ""),
    ],
)
def test_every_command_reads_the_texts_alone_and_cuts_them_alike(checkpoint, file, options, said) -> None:
    report = read_by_all(checkpoint, file, *options)
    assert report.startswith("20 documents, ") and f"{CUT} cut at 6 words" in report
    assert ("label<TAB>text" in report) == bool(said)


COMMANDS = {
    "encode": lambda run, file: ("encode", run, file, "-o", "never.npy"),
    "score": lambda run, file: ("score", run, file, "-o", "never.csv"),
    "reconstruct": lambda run, file: ("reconstruct", run, "--input", file),
    "neighbours": lambda run, file: ("neighbours", run, file, "the food"),
    "evaluate": lambda run, file: ("evaluate", run, "--corpus", file, "-o", "never.json"),
    "train": lambda run, file: (*TRAIN, "--corpus", file, "--output-dir", "never"),
    "classify": lambda run, file: ("classify", run, "--corpus", file, "-o", "never"),
}
REFUSED = {
    "labels that nothing tells of": ("tabs.txt", None, "give --label-column label"),
    "NUL": ("nul.txt", b"the food\na\0b\n", "line 2 holds a NUL"),
    "UTF-16": ("wide.txt", "the food\n".encode("utf-16"), "line 1 is not UTF-8"),
    "a number among texts": (
        "mixed.jsonl",
        b'{"text": "a"}\n{"text": 7}\n',
        "line 2: column 'text' holds the number 7",
    ),
    "semicolons": ("semi.csv", b"text;label\nthe food;1\n", "one column, but holds ';'"),
    "one field too many": ("wide.csv", b"text,label\na,1\nb,c,2\n", "line 3"),
    "a column twice": ("twice.csv", b"text,text\na,b\n", "several columns 'text'"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_the_same_files_in_the_same_words(folder: Path, command: str, name: str) -> None:
    file, content, error = REFUSED[name]
    if content is not None:
        Path(file).write_bytes(content)
    result = invoke(*COMMANDS[command]("on-lines", file), code=1)
    message = result.stderr.splitlines()[-1]
    assert message.startswith("seqvae: ") and error in message and file in message and len(message) < 600
    assert result.stdout == "" and not list(folder.glob("never*"))


def test_standard_input_is_a_file_of_lines() -> None:
    expected = SeqVAE.from_pretrained("on-labels/best").encode(["the food", "a room"])
    for piped in (
        b"the food\na room\n",
        b"\xef\xbb\xbfthe food\r\na room",
        b"1\tthe food\n2\ta room\n",
        b"\xef\xbb\xbf1\tthe food\n2\ta room\n",
    ):
        said = invoke("encode", "on-labels", "-", "-o", "piped.npy", stdin=piped).stderr
        np.testing.assert_allclose(np.load("piped.npy"), expected, atol=1e-5)
        assert "standard input: 2 documents, 2.0 words" in said and ("label<TAB>text" in said) == (b"\t" in piped)
    for piped, error in (
        (b"1\tthe food\n2\ta room\n", "standard input: its lines look like"),
        (b"the food\na\0\n", "standard input, line 2 holds a NUL"),
    ):
        assert error in invoke("encode", "on-lines", "-", "-o", "never.npy", stdin=piped, code=1).stderr
    assert (
        "--text-column is for tables"
        in invoke("encode", "on-lines", "-", "--text-column", "x", "-o", "never.npy", stdin="a\n", code=1).stderr
    )


def test_checkpoints_that_are_compared_are_not_cut_shorter_than_each_cuts() -> None:
    vae = SeqVAE.from_pretrained("bare")
    vae.tokenizer.model_max_length = 9
    vae.save_pretrained("longer")
    options = ("--text-column", "review", "--label-column", "label", "-o", "compared", "--features", "mean")
    assert "cut at 7 words" in invoke("classify", "on-labels", "longer", "--corpus", "new.csv", *options).stderr
    vae.tokenizer.model_max_length = int(1e30)
    vae.save_pretrained("endless")
    assert " cut " not in invoke("encode", "endless", "new.txt", "-o", "endless.npy").stderr


def test_the_column_of_the_run_is_the_default_and_must_be_there() -> None:
    Path("other.csv").write_text("text\nthe food\n")
    assert "no column 'review'" in invoke("encode", "on-table", "other.csv", "-o", "never.npy", code=1).stderr
    assert (
        "1 texts encoded"
        in invoke("encode", "on-table", "other.csv", "--text-column", "text", "-o", "other.npy").stderr
    )


def test_a_single_file_has_no_other_splits_and_a_folder_keeps_its_own() -> None:
    error = invoke("evaluate", "on-lines", "--corpus", "new.txt", "--split", "train", code=1).stderr
    assert "new is a single file, which is the test set" in error
    Path("splits").mkdir()
    shutil.copy("lines.txt", "splits/train.txt")
    shutil.copy("new.txt", "splits/test.txt")
    for split, sentences in (("test", 20), ("validation", 3)):
        invoke("evaluate", "on-lines", "--corpus", "splits", "--split", split, *QUICK, "-o", "figures.json")
        figures = json.loads(Path("figures.json").read_text())
        assert figures["sentences"] == sentences and figures["file"] is None


@pytest.mark.parametrize("suffix", ["txt", "csv", "tsv", "jsonl", "json", "parquet"])
def test_classes_are_the_same_from_every_format(suffix: str) -> None:
    file = "tabs.txt" if suffix == "txt" else f"new.{suffix}"
    columns = () if suffix == "txt" else ("--text-column", "review")
    options = ("--corpus", file, *columns, "--label-column", "label", "-o", suffix)
    result = invoke("classify", "on-lines", *options, "--features", "mean")
    report = json.loads(Path(suffix, "report.json").read_text())
    assert report["classes"] == ["1", "2"] and report["splits"]["train"]["documents"] == 18
    assert "cut at 6 words" in result.stderr
    edited = invoke(
        *("edit", "on-lines", "the food", "--examples", file, *columns, "--label-column", "label"),
        *("--towards", "1.0", "--away", "2", "--strengths", "1"),
    )
    assert edited.stdout.startswith("+1\t") and "20 documents" in edited.stderr
