"""The commands of the latent space: neighbours, analogy, edit, and paths of interpolate."""

from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from typer.testing import CliRunner

from modeling_seqvae import SeqVAE
from modeling_seqvae.cli import app

CHECKPOINT = str(Path(__file__).parent / "fixtures" / "checkpoint-v1")
TEXTS = ["the food was good .", "our room was cold", "the staff was warm", "wow", "what a dull museum", "the food"]
LABELS = ["5", "1", "5", "3", "1", "5"]


def invoke(*arguments: str, code: int = 0, stdin: str | None = None):
    """The result of a command that must end with this exit code, and never with a traceback."""
    result = CliRunner().invoke(app, arguments, input=stdin, env={"COLUMNS": "80"})
    assert result.exit_code == code, f"{result.exit_code}\n{result.stdout}\n{result.stderr}\n{result.exception!r}"
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture(scope="module")
def vae() -> SeqVAE:
    return SeqVAE.from_pretrained(CHECKPOINT)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    rows = "".join(f"{text},{label}\n" for text, label in zip(TEXTS, LABELS, strict=True))
    Path("reviews.csv").write_text("review,stars\n" + rows)
    Path("gap.csv").write_text("review,stars\n" + rows + "no stars,\n")
    Path("one.csv").write_text("review,stars\n" + "".join(f"{text},5\n" for text in TEXTS))


EDIT = ("edit", CHECKPOINT, "our room was cold", "--text-column", "review", "--label-column", "stars")


def test_neighbours_are_those_of_python(vae: SeqVAE) -> None:
    for metric in ("cosine", "euclidean"):
        options = ("the food was good", "-k", "3", "--metric", metric)
        printed = invoke("neighbours", CHECKPOINT, "texts.txt", *options).stdout
        expected = vae.neighbours("the food was good", TEXTS, 3, metric)
        assert printed == "".join(f"{near.distance:.4f}\t{near.position + 1}\t{near.text}\n" for near in expected)
    piped = invoke("neighbours", CHECKPOINT, "-", "wow", "-k", "1", stdin="\n".join(TEXTS)).stdout
    assert piped.endswith("\t4\twow\n")
    table = invoke("neighbours", CHECKPOINT, "reviews.csv", "wow", "--text-column", "review", "-k", "1").stdout
    assert table == piped


def test_an_analogy_is_that_of_python(vae: SeqVAE) -> None:
    assert invoke("analogy", CHECKPOINT, *TEXTS[:3]).stdout == f"{vae.analogy(*TEXTS[:3])}\n"


def test_labels_of_declared_classes_are_their_names(vae: SeqVAE) -> None:
    """As `datasets` writes them to Parquet: numbers, and the names beside them."""
    features = Features({"review": Value("string"), "mood": ClassLabel(names=["glad", "sad"])})
    moods = ["glad" if label == "5" else "sad" for label in LABELS]
    Dataset.from_dict({"review": TEXTS, "mood": moods}, features).to_parquet("moods.parquet")
    options = ("--examples", "moods.parquet", "--text-column", "review", "--label-column", "mood")
    printed = invoke("edit", CHECKPOINT, "our room was cold", *options, "--towards", "glad", "--strengths", "1").stdout
    (expected,) = vae.edit("our room was cold", vae.direction(TEXTS, moods, "glad"), [1.0])
    assert printed == f"+1\t{expected}\n"
    told = invoke("edit", CHECKPOINT, "our room was cold", *options, "--towards", "0", code=1).stderr
    assert "'glad', 'sad'" in told
    Dataset.from_dict({"review": TEXTS, "mood": [-1, *moods[1:]]}, features).to_parquet("gap.parquet")
    options = ("--examples", "gap.parquet", *options[2:], "--towards", "glad")
    assert "row 1 has no label" in invoke("edit", CHECKPOINT, "our room was cold", *options, code=1).stderr


@pytest.mark.parametrize("method", ["means", "logistic"])
def test_an_edit_is_that_of_python(vae: SeqVAE, method: str) -> None:
    options = ("--towards", "5", "--away", "1", "--method", method, "--strengths", "-1,0,2.5")
    printed = invoke(*EDIT, "--examples", "reviews.csv", *options).stdout
    direction = vae.direction(TEXTS, LABELS, "5", "1", method)
    written = vae.edit("our room was cold", direction, (-1, 0, 2.5))
    assert printed == "".join(f"{s}\t{text}\n" for s, text in zip(("-1", "+0", "+2.5"), written, strict=True))
    assert len(invoke(*EDIT, "wow", "--examples", "reviews.csv", "--towards", "5").stdout.splitlines()) == 6


def test_interpolate_takes_an_arc(vae: SeqVAE) -> None:
    printed = invoke("interpolate", CHECKPOINT, *TEXTS[:2], "--steps", "4", "--path", "spherical").stdout
    assert printed.splitlines() == vae.interpolate(*TEXTS[:2], steps=4, path="spherical")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*EDIT, "--examples", "reviews.csv", "--towards", "4"), "towards='4' is the label of no text; there are '5'"),
        ((*EDIT, "--examples", "reviews.csv", "--towards", "3"), "too few texts: towards has 1"),
        ((*EDIT, "--examples", "one.csv", "--towards", "5"), "needs two labels, and here is one only"),
        ((*EDIT, "--examples", "gap.csv", "--towards", "5"), "gap.csv, row 7 has no label"),
        ((*EDIT, "--examples", "none.csv", "--towards", "5"), "there is no file none.csv"),
        ((*EDIT, "--examples", "texts.txt", "--towards", "5"), "texts.txt has lines and no columns"),
        ((*EDIT, "--examples", "reviews.csv", "--towards", "5", "--strengths", "much"), "--strengths 'much'"),
        ((*EDIT, "--examples", "reviews.csv", "--towards", "5", "--method", "svm"), "means, logistic"),
        (("neighbours", CHECKPOINT, "none.txt", "wow"), "there is no file none.txt"),
        (("neighbours", CHECKPOINT, "texts.txt", "wow", "--metric", "dot"), "cosine, euclidean"),
        (("neighbours", CHECKPOINT, "texts.txt", "caf\udce9"), "not UTF-8"),
        (("interpolate", CHECKPOINT, "a", "b", "--path", "round"), "linear, spherical"),
    ],
)
def test_a_mistake_ends_in_a_sentence(arguments: tuple[str, ...], told: str) -> None:
    result = invoke(*arguments, code=1)
    assert told in result.stderr and result.stdout == ""


@pytest.mark.parametrize("command", ["neighbours", "analogy", "edit"])
def test_every_command_has_help_and_a_summary_of_one_line(command: str) -> None:
    assert f" {command} " in invoke(command, "--help").stdout
    (line,) = (line for line in invoke("--help").stdout.splitlines() if line.startswith(f"│ {command} "))
    assert line.rstrip(" │").endswith(".")


def test_a_sentence_is_needed() -> None:
    for arguments, missing in (
        (("edit", CHECKPOINT, "--examples", "reviews.csv", "--towards", "5"), "SENTENCE"),
        (("analogy", CHECKPOINT, "a"), "B"),
    ):
        assert f"Missing argument '{missing}" in invoke(*arguments, code=2).stderr
