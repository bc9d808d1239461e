"""`seqvae reproduce` itself, at the preset tiny: everything runs as it does at full size, in other processes."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from accelerate.state import AcceleratorState
from typer.testing import CliRunner

from modeling_seqvae.cli import app
from modeling_seqvae.reproduce.request import paper_settings, rows_of
from modeling_seqvae.reproduce.runner import document_again
from modeling_seqvae.reproduce.targets import TARGETS
from modeling_seqvae.training.recipe import Recipe

TINY = ("--corpus", "demo", "--preset", "tiny", "--jobs", "2")


class Table(NamedTuple):
    """What the command made of all rows of Table 1."""

    folder: Path
    result: Any


def reproduce(target: str, folder: Path, *options: str) -> Any:
    return CliRunner().invoke(app, ["reproduce", target, "--output-dir", str(folder), *TINY, *options])


@pytest.fixture(scope="module")
def table1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    folder = tmp_path_factory.mktemp("reproduce") / "new"
    result = reproduce("table1", folder)
    yield Table(folder, result)
    AcceleratorState._reset_state(reset_partial_state=True)


def files(folder: Path) -> dict[Path, int]:
    """What runs and measurements left below CORPUS/METHOD, and when."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/*/**/*.*")}


def run_of(folder: Path, method: str) -> Path:
    (run,) = (folder / "demo" / method).glob("tiny-*/seed0")
    return run


def test_every_row_is_trained_measured_and_shown(table1: Table) -> None:
    assert table1.result.exit_code == 0, table1.result.stderr
    rows = json.loads((table1.folder / "demo" / "table1.json").read_text())["tables"][0]["rows"]
    assert [row["method"] for row in rows] == rows_of("table1")
    for row in rows:
        run = run_of(table1.folder, row["method"])
        recipe = Recipe.load(run / "recipe.yaml")
        assert recipe.title in table1.result.stdout and recipe.limits == {"train": 128, "validation": 32}
        (name,) = (path for path in run.glob("evaluation*.json"))
        report = json.loads(name.read_text())
        for figure in ("nll", "bound", "kl", "ppl"):
            assert row[figure]["values"] == [report[figure]]
        assert (row["nll_bar"] is not None) == recipe.method.startswith("ivae")
        assert (report["sentences"], report["nll_sentences"]) == (32, 8)
    assert "KL minus" in table1.result.stdout and "%|" not in table1.result.stdout


def test_a_summary_comes_first_on_standard_error(table1: Table) -> None:
    told, rows = table1.result.stderr, len(rows_of("table1"))
    summary = f"trainings: 0 done, {rows} to do; measurements: 0 done, {rows} to do\n"
    assert told.index(summary) < told.index(": started")
    assert told.count(": started") == told.count(": done in") == 2 * rows


def test_what_table1_has_trained_the_others_find(table1: Table) -> None:
    before = files(table1.folder)
    for target in ("figure3", "figure4", "table2", "table1"):
        result = reproduce(target, table1.folder)
        assert result.exit_code == 0, result.stderr
        assert "nothing is left to do" in result.stderr
        assert (table1.folder / "demo" / f"{target}.md").is_file()
    assert (table1.folder / "demo" / "figure4.png").read_bytes().startswith(b"\x89PNG")
    assert files(table1.folder) == before


def test_table6_reads_labels_from_the_runs_of_table1(table1: Table) -> None:
    result = reproduce("table6", table1.folder, "--methods", "lstm_lm,max_pool")
    assert result.exit_code == 0, result.stderr
    assert "trainings: 2 done, 0 to do; measurements: 2 done, 5 to do" in result.stderr
    methods, beside = json.loads((table1.folder / "demo" / "table6.json").read_text())["tables"]
    assert [row["method"] for row in methods["rows"]] == ["lstm_lm", "max_pool"]
    assert 0 <= methods["rows"][1]["label_mean"]["mean"] <= 1 and all(row["accuracy"] for row in beside["rows"])
    assert (table1.folder / "demo" / "table6.png").read_bytes().startswith(b"\x89PNG")
    again = reproduce("table6", table1.folder, "--methods", "lstm_lm,max_pool")
    assert again.exit_code == 0 and "nothing is left to do" in again.stderr


def test_the_runs_are_those_of_train_and_evaluate(table1: Table) -> None:
    run = run_of(table1.folder, "seqvae")
    history = (run / "history.jsonl").read_bytes()
    command = "train --method seqvae --corpus demo --training tiny"
    resumed = CliRunner().invoke(
        app,
        [*command.split(), "--limit", "train=128", "--limit", "validation=32", "--output-dir", str(run), "--resume"],
    )
    assert resumed.exit_code == 0, resumed.stderr
    assert (run / "history.jsonl").read_bytes() == history
    AcceleratorState._reset_state(reset_partial_state=True)


def test_an_interrupted_run_goes_on_and_a_crash_leaves_the_other_rows(table1: Table, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("title: Bad\ntraining: {optimizer: sgd, learning_rate: 1.0e+30}\n")
    run = run_of(table1.folder, "max_pool")
    history = (run / "history.jsonl").read_bytes()
    (run / "finished.json").unlink()  # as if it had been stopped just before its end
    methods = f"seqvae,{tmp_path / 'bad.yaml'},max_pool"
    listed = reproduce("table1", table1.folder, "--methods", methods, "--dry-run")
    assert re.search(r"^SeqVAE \+ MaxPool, seed 0 +to resume after epoch 2 ", listed.stdout, re.MULTILINE)
    result = reproduce("table1", table1.folder, "--methods", methods)
    assert result.exit_code == 1
    assert "Bad, seed 0: not a finite number in epoch" in result.stderr and "2 of 6 steps failed" in result.stderr
    assert (run / "history.jsonl").read_bytes() == history and (run / "finished.json").is_file()
    text = (table1.folder / "demo" / "table1.md").read_text()
    assert "| Bad (missing) |" in text and "| SeqVAE |" in text and "| SeqVAE + MaxPool |" in text


OWN = """
from pathlib import Path

from modeling_seqvae.reproduce.rows import Report, Table
from modeling_seqvae.reproduce.steps import Measurement
from modeling_seqvae.reproduce.targets import TARGETS

def measure_letters(inputs, word):
    return {"letters": len(word)}

class Letters:
    summary, draws = "The letters of a word", False

    def steps(self, request):
        return [self._measurement(request)]

    def report(self, request, output_dir):
        rows = [self._measurement(request).read(output_dir)]
        return Report([Table("Letters.", {"letters": ("Letters", "{}")}, rows)])

    def _measurement(self, request):
        return Measurement("letters", request.folder / "own", "letters.json", measure_letters, {"word": "seven"})

"""


@pytest.mark.parametrize(
    ("added", "before"),
    [('TARGETS.register("NAME")(Letters())', True), ('TARGETS.register("NAME")(Letters())', False),
     ('TARGETS["NAME"] = Letters()', False)],
)  # fmt: skip
def test_a_target_of_ones_own_is_imported(
    added: str, before: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name = f"letters{request.node.callspec.id.count('register')}{before}"  # another each time: modules stay imported
    request.addfinalizer(lambda: TARGETS.pop(name, None))
    module = tmp_path / f"module_of_{name}.py"
    module.write_text(OWN + added.replace("NAME", name))
    own, to = ["--import", str(module)], ["--output-dir", str(tmp_path / "out"), *TINY]
    command = [*own, "reproduce", name, *to] if before else ["reproduce", name, *to, *own]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    made = tmp_path / "out" / "demo" / f"{name}.json"
    assert json.loads(made.read_text())["tables"][0]["rows"][0]["letters"] == 5
    TARGETS.pop(name)
    sys.modules.pop(module.stem)
    assert document_again(made) == made.with_suffix(".md").read_text()


def test_what_is_no_target_is_not_registered() -> None:
    for wrong in (OWN, type("Letters", (), {"summary": "", "draws": False, "steps": None, "report": None})):
        with pytest.raises(ValueError, match="is not an object with summary, draws, steps and report"):
            TARGETS.register("wrong")(wrong)


MISTAKES = {
    "unknown target": (("table9",), "'table9' is not one of table1"),
    "unknown method": (("table1", "--methods", "bert"), "--methods bert: the methods are abs_pool"),
    "unknown corpus": (("table1", "--corpus", "none"), "'none'"),
    "unknown preset": (("table1", "--preset", "huge"), "configuration/training, only auto, demo"),
    "unknown setting": (("table1", "--set", "training.epoch=3"), "training.epoch is not a field"),
    "a seed as a setting": (("table1", "--set", "training.seed=3"), "--seeds"),
    "wrong limit": (("table1", "--limit", "train=none"), "--limit"),
    "a file as output": (("table1", "--output-dir", "file"), "file is a file"),
    "no latent": (("table6", "--methods", "lstm_lm"), "at least one of --methods must have one"),
    "unknown step": (("table1", "--step", "demo/none"), "--step demo/none: table1 has no such step"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_in_a_sentence_before_anything_is_written(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, told = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    target, *options = arguments
    result = reproduce(target, Path("new"), *options)
    assert result.exit_code == 1 and result.stdout == ""
    assert told in result.stderr and "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("options", [("--seeds", "0"), ("--seeds", "many"), ("--jobs", "0"), ("--nll-sentences", "0")])
def test_wrong_counts_are_wrong_usage(tmp_path: Path, options: tuple[str, str]) -> None:
    assert reproduce("table1", tmp_path, *options).exit_code == 2


def test_figures_need_matplotlib_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = reproduce("figure3", tmp_path / "new")
    assert result.exit_code == 1 and "pip install matplotlib" in result.stderr and not (tmp_path / "new").exists()


def test_a_dry_run_leaves_nothing(tmp_path: Path) -> None:
    result = reproduce("table3", tmp_path / "new", "--methods", "max_pool", "--seeds", "2", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert not (tmp_path / "new").exists()
    assert len(re.findall(r"to train +\S+kl_schedule=constant/seed[01]$", result.stdout, re.MULTILINE)) == 2
    assert "measurements: 0 done, 4 to do" in result.stderr


def test_what_the_preset_says_gives_way_to_the_command_line(tmp_path: Path) -> None:
    assert paper_settings("presets")["tiny"]["limits"]["train"] == 128
    result = reproduce("table1", tmp_path / "new", "--methods", "seqvae", "--limit", "train=64", "--print-commands")
    assert "--limit train=64 --limit validation=32 " in result.stdout, result.stdout


def test_the_printed_commands_do_what_the_command_itself_would_do(tmp_path: Path) -> None:
    """In any order that keeps the trainings first; measurements without a command of their own are among them."""
    target = ("table6", tmp_path / "a folder", "--methods", "max_pool", "--limit", "train=64")
    printed = reproduce(*target, "--print-commands")
    lines = printed.stdout.splitlines()
    kinds = [" ".join(line.split()[:2]) for line in lines]
    assert kinds.count("seqvae train") == kinds.count("seqvae evaluate") == 1 and len(lines) == 7
    assert kinds[0] == "seqvae train" and kinds[-2:] == ["seqvae evaluate", "seqvae reproduce"]
    for line in [lines[0], *reversed(lines[1:])]:
        done = CliRunner().invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 0, f"{line}: {done.stderr}"
        AcceleratorState._reset_state(reset_partial_state=True)
    listed = reproduce(*target, "--dry-run")
    assert (listed.exit_code, listed.stdout) == (0, ""), listed.stdout
    result = reproduce(*target)
    assert result.exit_code == 0 and "nothing is left to do" in result.stderr
    assert "missing" not in (tmp_path / "a folder" / "demo" / "table6.md").read_text()
