import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from accelerate.state import AcceleratorState
from typer.testing import CliRunner

from modeling_seqvae import SeqVAE, __version__
from modeling_seqvae.checksums import write_checksums
from modeling_seqvae.cli import app
from modeling_seqvae.cli.options import PANELS
from modeling_seqvae.training.configuration import available
from modeling_seqvae.training.evaluations import weights_hash
from modeling_seqvae.training.recipe import Recipe

COMMANDS = (
    *("train", "evaluate", "encode", "score", "classify", "sample", "reconstruct", "interpolate"),
    *("neighbours", "analogy", "edit", "explore", "plot", "export", "push", "reproduce", "demo", "results", "list"),
)
PRESET = """
model: {embedding_size: 6, hidden_size: 8, latent_size: 3, initializer_range: 0.5}
training: {batch_size: 8, epochs: 1, learning_rate: 0.1}
"""
TRAIN = ("train", "--corpus", "texts", "--method", "max_pool", "--training", "preset.yaml", "--output-dir")
ENCODE = ("encode", "run", "three.csv", "--text-column", "review", "-o")
QUICK = ("--nll-samples", "3")
CARD = str(Path(__file__).parent / "fixtures" / "checkpoint-v1")
TOLD = "three.txt: 3 documents, 5.0 words on average\n"
TEXTS = ["the food was good .", "our room seemed cold and slow", "the staff was warm"]


def invoke(*arguments: str, code: int = 0, stdin: str | bytes | None = None):
    """The result of a command that must end with this exit code, and never with a traceback."""
    AcceleratorState._reset_state(reset_partial_state=True)  # in use, a command has a process of its own
    result = CliRunner().invoke(app, arguments, input=stdin, env={"COLUMNS": "80"}, prog_name="seqvae")
    assert result.exit_code == code, f"{result.exit_code}\n{result.stdout}\n{result.stderr}\n{result.exception!r}"
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def files(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def lines(path: Path, count: int) -> None:
    source = random.Random(count)
    words = ["the", "a", "food", "room", "staff", "was", "seemed", "good", "bad", "cold", "slow", "and", "very", "."]
    path.write_text("".join(" ".join(source.choices(words, k=source.randint(3, 9))) + "\n" for _ in range(count)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's working folder: texts of their own, a run, a language model's run, and things that are neither."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "texts").mkdir()
    for split, count in {"train": 60, "validation": 20, "test": 12}.items():
        lines(folder / "texts" / f"{split}.txt", count)
    lines(folder / "lines.txt", 40)
    (folder / "preset.yaml").write_text(PRESET)
    (folder / "three.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    (folder / "three.csv").write_text("review,stars\n" + "".join(f"{text},{n}\n" for n, text in enumerate(TEXTS)))
    (folder / "gaps.jsonl").write_text(f'{{"text": "{TEXTS[0]}"}}\n{{"text": null}}\n{{"text": ""}}\n')
    (folder / "empty.txt").touch()
    (folder / "latin.txt").write_bytes("the caf\xe9\n".encode("latin-1"))
    (folder / "strange.xyz").write_text("a text\n")
    (folder / "broken.yaml").write_text("model: [1\n")
    (folder / "method.yaml").write_text("model: {pooling_mode: median}\n")
    (folder / "empty").mkdir()
    (folder / "file").write_text("no folder\n")
    former = Path.cwd()
    os.chdir(folder)
    try:
        invoke(*TRAIN, "run")
        invoke(*TRAIN, "lm", "--method", "lstm_lm")
    finally:
        os.chdir(former)
    (folder / "begun").mkdir()
    (folder / "begun" / "recipe.yaml").write_bytes((folder / "run" / "recipe.yaml").read_bytes())
    return folder


@pytest.fixture(autouse=True)
def _in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def vae(folder: Path) -> SeqVAE:
    return SeqVAE.from_pretrained(folder / "run" / "best")


def test_help_lists_every_command_on_a_line() -> None:
    described = invoke("--help").stdout
    for command in COMMANDS:
        (line,) = (line for line in described.splitlines() if line.startswith(f"│ {command} "))
        assert line.rstrip(" │").endswith("."), f"the summary of {command} does not fit into 80 columns"
    assert invoke("-h").stdout == described


def test_every_command_is_in_a_panel_of_the_help() -> None:
    described = invoke("--help").stdout
    places = [described.index(f"─ {panel} ─") for panel in PANELS]
    assert places == sorted(places)
    assert {command.rich_help_panel for command in app.registered_commands} == set(PANELS)


def test_no_command_is_left_out_here() -> None:
    assert {command.name or command.callback.__name__ for command in app.registered_commands} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    described = invoke(command, "-h").stdout
    assert described == invoke(command, "--help").stdout
    assert f"Usage: seqvae {command} " in described
    assert "[[" not in described and "...}" not in described


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_what_stands_in_brackets(command: str) -> None:
    (registered,) = (it for it in app.registered_commands if command in (it.name, it.callback.__name__))
    for name in re.findall(r"\[(\w+)\]", registered.callback.__doc__):
        assert f"[{name}]" in invoke(command, "--help").stdout


def test_names_that_help_mentions_exist() -> None:
    described = invoke("train", "--help").stdout
    told = {
        "methods": ("unigram_pretraining", "max_pool", "seqvae", "lstm_lm"),
        "corpora": ("demo", "ptb", "yahoo"),
        "training": ("auto", "paper", "small", "demo", "tiny"),
    }
    for kind, names in told.items():
        assert set(names) <= set(available(kind))
        assert all(name in described for name in names)


def test_version() -> None:
    assert invoke("--version").stdout == f"seqvae {__version__}\n"


def test_train_writes_a_run_and_keeps_progress_off_standard_output(folder: Path) -> None:
    result = invoke(*TRAIN, "another", "--set", "training.epochs=2", "--limit", "train=40")
    assert {".lock", "best", "last", "finished.json", "history.jsonl", "recipe.yaml"} == {
        path.name for path in (folder / "another").iterdir()
    }
    assert len((folder / "another" / "history.jsonl").read_text().splitlines()) == 2
    ended = folder / "another" / "finished.json"
    ended.write_text(json.dumps(told := json.loads(ended.read_text()) | {"threads": 999}))
    invoke(*TRAIN, "another", "--set", "training.epochs=2", "--limit", "train=40", "--resume")
    assert json.loads(ended.read_text()) == told  # of the process that trained, not of one that found all done
    assert "texts train: 40 documents" in result.stderr and "best epoch" in result.stdout
    assert "%|" not in result.stdout and "%|" in result.stderr


def test_train_by_itself_pretrains_in_a_folder_named_after_corpus_and_method(folder: Path) -> None:
    short = ("train", "--corpus", "lines.txt", "--set", "model.hidden_size=8", "--set", "model.embedding_size=6")
    short += ("--set", "training.updates=[1, 2]", "--set", "pretraining.training.updates=[1, 2]")
    told = invoke(*short)
    assert {"best", "pretraining"} < {path.name for path in (folder / "lines-unigram_pretraining").iterdir()}
    recipe = Recipe.load(folder / "lines-unigram_pretraining" / "recipe.yaml")
    assert recipe.method == "unigram_pretraining" and recipe.training.epochs == 1 and recipe.model["latent_size"] == 32
    assert "at most 2 epochs of pretraining (2 updates), then 1 epochs (2 updates)" in told.stderr
    assert "the latent holds" in told.stdout or "the posterior has collapsed" in told.stdout
    before = files(folder / "lines-unigram_pretraining")
    assert "--resume, or choose another directory with --output-dir" in invoke(*short, code=1).stderr
    assert files(folder / "lines-unigram_pretraining") == before
    assert "at most" not in invoke(*TRAIN, "run", "--resume").stderr


@pytest.fixture(autouse=True)
def unknowing(folder: Path) -> None:
    """The run, which is too short to hold anything, does not know it: every command would warn of that."""
    path = folder / "run" / "best" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"validation_kl": None, "validation_mi": None}))
    write_checksums(path.parent)


@pytest.fixture
def holding(folder: Path) -> Iterator[Callable[[float | None], None]]:
    """holding(kl): the run's best/ says that KL and MI on the validation set were this."""
    path = folder / "run" / "best" / "config.json"
    before = path.read_text()

    def hold(kl: float | None) -> None:
        path.write_text(json.dumps(json.loads(before) | {"validation_kl": kl, "validation_mi": kl}))
        write_checksums(path.parent)

    yield hold
    path.write_text(before)
    write_checksums(path.parent)


USES = {
    "encode": ("encode", "run", "three.txt", "-o", "warned.npy"),
    "classify": ("classify", "run", "--corpus", "labelled", "--label-column", "label", "-o", "warned"),
    "sample": ("sample", "run", "-n", "2"),
    "reconstruct": ("reconstruct", "run", *TEXTS),
    "interpolate": ("interpolate", "run", *TEXTS[:2]),
    "analogy": ("analogy", "run", *TEXTS),
    "neighbours": ("neighbours", "run", "three.txt", TEXTS[0]),
    "edit": ("edit", "run", TEXTS[0], "--examples", "labelled/train.csv", "--towards", "1"),
}


@pytest.mark.parametrize("command", USES)
def test_a_collapsed_model_is_told_once_by_every_command_that_uses_its_latents(
    folder: Path, holding: Callable[[float | None], None], command: str
) -> None:
    (folder / "labelled").mkdir(exist_ok=True)
    for split, count in {"train": 12, "test": 6}.items():
        rows = [f"{TEXTS[i % 3]} {'good' if i % 2 else 'bad'},{i % 2}" for i in range(count)]
        (folder / "labelled" / f"{split}.csv").write_text("\n".join(["text,label", *rows, ""]))
    (folder / "labelled" / "validation.csv").write_text(f"text,label\n{TEXTS[0]},0\n")
    results = {}
    for kl in (0.04, 4.0, None):
        holding(kl)
        results[kl] = invoke(*USES[command])
        (folder / "warned.npy").unlink(missing_ok=True)
    told = results[0.04].stderr
    assert told.count("the posterior has collapsed: the latent holds 0.04 nats a text") == 1
    assert "warning: run/best: " in told and "--method unigram_pretraining" in told
    assert "collapsed" not in results[4.0].stderr + results[None].stderr + results[0.04].stdout


def test_evaluate_warns_by_what_it_has_measured(folder: Path, holding: Callable[[float | None], None]) -> None:
    holding(None)
    result = invoke("evaluate", "run", *QUICK, "--nll-sentences", "5", "-o", "measured.json")
    kl = json.loads((folder / "measured.json").read_text())["kl"]
    assert result.stderr.count("the posterior has collapsed") == (kl < 0.1)
    assert "collapsed" not in invoke("evaluate", "lm", *QUICK).stderr


def test_train_ends_with_what_the_latent_holds(folder: Path) -> None:
    (folder / "run" / "best" / "checksums.json").unlink()  # so that best/, where a test has changed it, is made again
    result = invoke(*TRAIN, "run", "--resume")
    record = json.loads((folder / "run" / "history.jsonl").read_text().splitlines()[-1])
    holds = "the KL is" if record["mi"] < 0.1 else "the latent holds"
    expected = "the posterior has collapsed: the latent holds" if record["kl"] < 0.1 else holds
    assert f"{expected} {record['kl']:.2f} nats a text" in result.stdout
    config = json.loads((folder / "run" / "best" / "config.json").read_text())
    assert [config["validation_kl"], config["validation_mi"]] == [round(record[name], 4) for name in ("kl", "mi")]
    language_model = invoke(*TRAIN, "lm", "--method", "lstm_lm", "--resume")
    assert "latent" not in language_model.stdout and "collapsed" not in language_model.stdout


def test_a_run_is_not_overwritten_but_resumed(folder: Path) -> None:
    before = files(folder / "run")
    assert "--resume" in invoke(*TRAIN, "run", code=1).stderr
    assert (
        "training.epochs is 1 there and 9 here"
        in invoke(*TRAIN, "run", "--resume", "--set", "training.epochs=9", code=1).stderr
    )
    assert files(folder / "run") == before
    invoke(*TRAIN, "run", "--resume")
    assert files(folder / "run").keys() == before.keys()


def test_evaluate_prints_a_table_and_writes_the_same_figures(folder: Path) -> None:
    result = invoke("evaluate", "run", *QUICK, "--nll-sentences", "5")
    report = json.loads((folder / "run" / "evaluation.json").read_text())
    assert (report["corpus"], report["split"], report["sentences"], report["nll_sentences"]) == ("texts", "test", 12, 5)
    assert f"{report['bound']:.2f}" in result.stdout and f"{report['nll']:.2f}" in result.stdout
    assert "SeqVAE + MaxPool" in result.stdout and "12 sentences" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "evaluation.json" in result.stderr and "evaluation.json" not in result.stdout


def test_evaluate_in_bf16_is_close_and_recorded(folder: Path) -> None:
    reports = {}
    for precision in ("no", "bf16"):
        name = f"{precision}.json"
        result = invoke("evaluate", "run", *QUICK, "--precision", precision, "--device", "cpu", "--output", name)
        assert ("Measured in bf16" in " ".join(result.stdout.split())) == (precision == "bf16")
        reports[precision] = json.loads((folder / name).read_text())
        assert reports[precision]["precision"] == precision
    assert reports["no"]["bound"] != reports["bf16"]["bound"] == pytest.approx(reports["no"]["bound"], abs=0.05)
    assert reports["no"]["nll"] == pytest.approx(reports["bf16"]["nll"], abs=0.05)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--split", "validation"), "evaluation-validation.json"),
        (("--limit", "test=4"), "evaluation-first4.json"),
        (("--shuffle",), "evaluation-shuffled.json"),
        (("--seed", "3"), "evaluation-seed3.json"),
        (("--corpus", "lines.txt"), "evaluation-lines.json"),
    ],
)
def test_other_questions_do_not_overwrite_the_evaluation(folder: Path, options: tuple[str, ...], name: str) -> None:
    kept = folder / "run" / "evaluation.json"
    kept.write_text("kept")
    invoke("evaluate", "run", *QUICK, *options)
    assert kept.read_text() == "kept"
    assert json.loads((folder / "run" / name).read_text())["nll_samples"] == 3


def test_a_checkpoint_without_its_run_needs_a_corpus_and_is_left_as_it_is(folder: Path) -> None:
    shutil.copytree(folder / "run" / "best", folder / "apart" / "model")
    before = files(folder / "apart" / "model")
    assert "--corpus" in invoke("evaluate", "apart/model", *QUICK, code=1).stderr
    invoke("evaluate", "apart/model", "--corpus", "texts", *QUICK, "--output", "apart/figures.json")
    assert json.loads((folder / "apart" / "figures.json").read_text())["title"] == "apart/model"
    assert files(folder / "apart" / "model") == before


def test_the_best_model_of_a_run_is_measured_by_either_name(folder: Path) -> None:
    shutil.copytree(folder / "run", folder / "other")
    for checkpoint in ("other", "other/best"):
        (folder / "other" / "evaluation.json").unlink(missing_ok=True)
        told = invoke("evaluate", checkpoint, *QUICK).stderr.splitlines()[-1].removeprefix("written to ")
        assert Path(told).samefile(folder / "other" / "evaluation.json")


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".parquet", ".jsonl", ".NPY"])
def test_encode_writes_a_row_a_text_in_order(folder: Path, vae: SeqVAE, suffix: str) -> None:
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".jsonl": partial(pd.read_json, lines=True)}
    result = invoke("encode", "run", "three.txt", "-o", f"features{suffix}", "--batch-size", "2")
    if suffix.lower() == ".npy":
        found = np.load(folder / f"features{suffix}")
    else:
        table = read[suffix](folder / f"features{suffix}")
        assert list(table["text"]) == TEXTS
        found = table.drop(columns="text")
    np.testing.assert_allclose(found, vae.encode(TEXTS), atol=1e-5)
    assert result.stdout == "" and result.stderr == f"{TOLD}3 texts encoded: features{suffix}\n"


def test_encode_reads_a_column_of_a_table_and_standard_input(folder: Path, vae: SeqVAE) -> None:
    invoke("encode", "run", "three.csv", "--text-column", "review", "-o", "column.csv", "--features", "mean")
    table = pd.read_csv(folder / "column.csv")
    means = ["mean_0", "mean_1", "mean_2"]
    kept = pd.read_csv(folder / "three.csv")
    assert list(table.columns) == [*kept.columns, *means] and table[[*kept.columns]].equals(kept)
    np.testing.assert_allclose(table[means], vae.encode(TEXTS, "mean"), atol=1e-5)
    for options, left in ((("--keep", "stars"), ["stars"]), (("--no-keep",), [])):
        invoke(
            "encode", "run", "three.csv", "--text-column", "review", "-o", "some.csv", "--features", "mean", *options
        )
        assert list(pd.read_csv(folder / "some.csv").columns) == [*left, *means]
    invoke("encode", "run", "-", "-o", "piped.npy", stdin="\n".join(TEXTS))
    np.testing.assert_allclose(np.load(folder / "piped.npy"), vae.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl", ".CSV"])
def test_score_writes_the_nll_and_the_tokens_of_each_text_in_order(folder: Path, vae: SeqVAE, suffix: str) -> None:
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".jsonl": partial(pd.read_json, lines=True)}
    result = invoke("score", "run", "three.txt", "-o", f"nll{suffix}", "--nll-samples", "5", "--batch-size", "2")
    table = read[suffix.lower()](folder / f"nll{suffix}")
    assert list(table.columns) == ["text", "nll", "bound", "tokens", "unknown", "bits_per_byte", "warning"]
    assert list(table["text"]) == TEXTS and list(table["tokens"]) == [6, 7, 5]
    expected = vae.nll(TEXTS, 5)
    np.testing.assert_allclose(table["nll"], expected, rtol=1e-6)
    perplexity = np.exp(expected.sum() / 18)
    told = f"{TOLD}3 texts scored (NLL {expected.mean():.2f} nats a text, PPL {perplexity:.2f}): nll{suffix}\n"
    read, warning, scored = result.stderr.splitlines(keepends=True)
    assert result.stdout == "" and read + scored == told
    assert "2 of 3 texts have unknown words" in warning and warning.endswith("(rows 2, 3)\n")


def test_score_reads_a_column_of_a_table_and_standard_input(folder: Path, vae: SeqVAE) -> None:
    quick = ("--nll-samples", "5", "--seed", "3")
    invoke("score", "run", "three.csv", "--text-column", "review", "-o", "column.csv", *quick)
    np.testing.assert_allclose(pd.read_csv(folder / "column.csv")["nll"], vae.nll(TEXTS, 5, seed=3), rtol=1e-6)
    invoke("score", "run", "-", "-o", "piped.csv", *quick, stdin="\n".join(TEXTS))
    piped, column = pd.read_csv(folder / "piped.csv"), pd.read_csv(folder / "column.csv")
    assert list(piped["text"]) == list(column["review"]) and list(column["stars"]) == [0, 1, 2]
    assert piped.drop(columns="text").equals(column.drop(columns=["review", "stars"]))
    assert "0 texts scored: nothing.csv" in invoke("score", "run", "-", "-o", "nothing.csv", stdin="").stderr
    assert (folder / "nothing.csv").read_text() == "text,nll,bound,tokens,unknown,bits_per_byte,warning\n"


def test_score_finds_what_is_odd_among_other_texts_and_tells_what_is_to_be_read_with_care(
    folder: Path, vae: SeqVAE
) -> None:
    (folder / "odd.csv").write_text("text,id\nthe food was good,01\n,02\nxyzzy plugh,03\n")
    quick = ("odd.csv", "--quick", "--keep", "id", "--reference")
    for reference in ("validation", "three.txt"):
        result = invoke("score", "run", *quick, reference, "-o", "odd.jsonl")
        table = pd.read_json(folder / "odd.jsonl", lines=True, dtype={"id": str})
        assert list(table["id"]) == ["01", "02", "03"] and table["quantile"].between(0, 1).all()
        assert list(table.columns) == ["id", "bound", "tokens", "unknown", "bits_per_byte", "quantile", "warning"]
        told = [line for line in result.stderr.splitlines() if line.startswith("seqvae: warning:")]
        assert any("1 of 3 texts have no words" in line and "(row 2)" in line for line in told)
        assert any("1 of 3 texts have unknown words" in line and "(row 3)" in line for line in told)
        assert "3 texts scored (-ELBO " in result.stderr and "PPL at most" in result.stderr


def test_score_of_the_empty_text_is_that_of_its_end(folder: Path) -> None:
    result = invoke("score", "lm", "gaps.jsonl", "-o", "gaps.csv")
    table = pd.read_csv(folder / "gaps.csv")
    assert list(table["tokens"]) == [6, 1, 1] and table["nll"][1] == table["nll"][2] < table["nll"][0]
    assert "3 documents, 1.7 words on average; 2 empty, each a sentence without words" in result.stderr


def test_empty_texts_keep_their_rows_and_are_counted(folder: Path, vae: SeqVAE) -> None:
    result = invoke("encode", "run", "gaps.jsonl", "-o", "gaps.npy")
    np.testing.assert_allclose(np.load(folder / "gaps.npy"), vae.encode([TEXTS[0], "", ""]), atol=1e-5)
    assert "3 documents, 1.7 words on average; 2 empty, each a sentence without words" in result.stderr


def test_sample_writes_sentences_and_nothing_else() -> None:
    result = invoke("sample", "run", "-n", "4", "--seed", "1")
    assert len(result.stdout.splitlines()) == 4 and result.stderr == ""
    assert invoke("sample", "run/best", "-n", "4", "--seed", "1").stdout == result.stdout
    assert invoke("sample", "run", "-n", "4", "--seed", "2").stdout != result.stdout
    assert invoke("sample", "run", "-n", "4", "--seed", "1", "--temperature", "0.1").stdout != result.stdout


def test_samples_of_the_aggregated_posterior_are_of_the_run_s_texts_or_of_others(vae: SeqVAE, folder: Path) -> None:
    own = invoke("sample", "run", "-n", "4", "--seed", "1", "--prior", "aggregate")
    assert "fitting a mixture to the posteriors of 60 texts" in own.stderr
    vae.fit_aggregate((folder / "texts" / "train.txt").read_text().splitlines())
    assert own.stdout.splitlines() == vae.sample(4, seed=1, prior="aggregate")
    other = invoke("sample", "run", "-n", "4", "--seed", "1", "--prior", "aggregate", "--texts", "three.txt")
    assert "of 3 texts" in other.stderr and other.stdout != own.stdout
    vae.save_pretrained(folder / "with-mixture")
    kept = invoke("sample", "with-mixture", "-n", "4", "--seed", "1", "--prior", "aggregate")
    assert (kept.stdout, kept.stderr) == (own.stdout, "")
    shutil.copytree(folder / "run" / "best", folder / "checkpoint-alone")
    alone = invoke("sample", "checkpoint-alone", "--prior", "aggregate", code=1).stderr
    assert "training texts of checkpoint-alone are not known" in " ".join(alone.split())
    assert "needs --prior aggregate" in invoke("sample", "run", "--texts", "three.txt", code=1).stderr
    assert "not one of model, aggregate" in invoke("sample", "run", "--prior", "mixture", code=1).stderr
    assert "latent_size=0" in invoke("sample", "lm", "--prior", "aggregate", code=1).stderr
    vae.aggregate = None


def test_reconstruct_reads_arguments_files_and_standard_input_alike(vae: SeqVAE) -> None:
    expected = "".join(f"{sentence}\n" for sentence in vae.reconstruct(TEXTS))
    assert invoke("reconstruct", "run", *TEXTS).stdout == expected
    assert invoke("reconstruct", "run", "--input", "three.txt").stdout == expected
    assert invoke("reconstruct", "run", "--input", "three.csv", "--text-column", "review").stdout == expected
    assert invoke("reconstruct", "run", "--input", "-", stdin="\n".join(TEXTS) + "\n").stdout == expected
    beams = "".join(f"{sentence}\n" for sentence in vae.reconstruct(TEXTS, num_beams=3))
    assert invoke("reconstruct", "run", *TEXTS, "--beams", "3").stdout == beams


def test_interpolate_goes_from_one_reconstruction_to_the_other(vae: SeqVAE) -> None:
    written = invoke("interpolate", "run", TEXTS[0], TEXTS[1], "--steps", "4").stdout.splitlines()
    assert len(written) == 4
    assert [written[0], written[-1]] == vae.reconstruct(TEXTS[:2])


def test_a_language_model_samples_and_is_measured_but_has_no_latent(folder: Path) -> None:
    assert len(invoke("sample", "lm", "-n", "2").stdout.splitlines()) == 2
    assert "NLL exact" in " ".join(invoke("evaluate", "lm").stdout.split())
    report = json.loads((folder / "lm" / "evaluation.json").read_text())
    assert report["nll"] == pytest.approx(report["bound"], abs=1e-4) and report["mi"] is None
    for arguments in (
        ("encode", "lm", "three.txt", "-o", "none.npy"),
        ("reconstruct", "lm", "a"),
        ("interpolate", "lm", "a", "b"),
    ):
        assert "latent_size=0" in invoke(*arguments, code=1).stderr
    assert not (folder / "none.npy").exists()


def test_a_named_corpus_is_not_mistaken_for_a_folder_of_its_name(folder: Path) -> None:
    (folder / "ptb").mkdir()
    lines(folder / "ptb" / "train.txt", 20)
    assert "ptb.valid.txt" in invoke("train", "--corpus", "ptb", "--output-dir", "never", code=1).stderr


def test_warnings_are_sentences_on_standard_error() -> None:
    result = invoke("reconstruct", "run", "wholly unheard-of café ☕ 日本語")
    assert len(result.stdout.splitlines()) == 1
    (warning,) = result.stderr.splitlines()
    assert warning.startswith("seqvae: warning: ") and "vocabulary" in warning


MISTAKES = {
    "unknown method": ((*TRAIN, "new", "--method", "maxpool"), "max_pool"),
    "unknown field in a method": ((*TRAIN, "new", "--method", "method.yaml"), "method.yaml"),
    "method that is no YAML": ((*TRAIN, "new", "--method", "broken.yaml"), "broken.yaml is not readable"),
    "method that is not there": ((*TRAIN, "new", "--method", "none.yaml"), "no file none.yaml"),
    "unknown corpus": (("train", "--corpus", "pbt", "--output-dir", "new"), "ptb"),
    "corpus that is not there": (("train", "--corpus", "none.txt", "--output-dir", "new"), "none.txt"),
    "folder as a corpus that is not there": (
        ("train", "--corpus", "none/texts", "--output-dir", "new"),
        "/none/texts",
    ),
    "empty corpus": (("train", "--corpus", "empty.txt", "--output-dir", "new"), "empty.txt is empty"),
    "corpus in an empty folder": (("train", "--corpus", "empty", "--output-dir", "new"), "train.txt"),
    "corpus without a suffix": (("train", "--corpus", "file", "--output-dir", "new"), "suffix"),
    "corpus of unknown suffix": (("train", "--corpus", "strange.xyz", "--output-dir", "new"), ".csv"),
    "corpus that is not UTF-8": (("train", "--corpus", "latin.txt", "--output-dir", "new"), "line 1 is not UTF-8"),
    "columns unsaid": (("train", "--corpus", "three.csv", "--output-dir", "new"), "--text-column"),
    "column of a corpus with a name": (("train", "--text-column", "x", "--output-dir", "new"), "demo"),
    "files of a corpus missing": (
        ("train", "--corpus", "ptb", "--data-dir", "none", "--output-dir", "new"),
        "ptb.train.txt",
    ),
    "unknown preset": (("train", "--training", "huge", "--output-dir", "new"), "paper"),
    "private without a model to push": ((*TRAIN, "new", "--private"), "--push-to"),
    "override without a field": ((*TRAIN, "new", "--set", "nonsense"), "section.field=value"),
    "override of an unknown field": ((*TRAIN, "new", "--set", "training.epoch=3"), "epochs"),
    "override of the wrong kind": ((*TRAIN, "new", "--set", "training.epochs=many"), "training.epochs"),
    "override out of range": ((*TRAIN, "new", "--set", "model.hidden_size=-1"), "hidden_size must be at least 1"),
    "limit without a split": ((*TRAIN, "new", "--limit", "x"), "train=10000"),
    "limit of an unknown split": ((*TRAIN, "new", "--limit", "dev=3"), "validation"),
    "limit of none": ((*TRAIN, "new", "--limit", "train=0"), "train=0"),
    "limit in odd digits": ((*TRAIN, "new", "--limit", "train=²"), "train=²"),
    "run where a file is": ((*TRAIN, "file"), "file is a file"),
    "run below a file": ((*TRAIN, "file/run"), "file is a file"),
    "no checkpoint": (("sample", "none"), "no folder none"),
    "file as a checkpoint": (("sample", "file"), "no folder file"),
    "empty folder as a checkpoint": (("sample", "empty"), "no config.json"),
    "state of a run as a checkpoint": (("sample", "run/last"), "no config.json"),
    # An empty variable of a shell must not stand for the default.
    "no method": (("train", "--corpus", "demo", "--method", "", "--output-dir", "new"), "there is no ''"),
    "no preset": (("train", "--corpus", "demo", "--preset", "", "--output-dir", "new"), "there is no ''"),
    "no corpus": (("train", "--corpus", "", "--output-dir", "new"), "there is no ''"),
    "no tokenizer": (("train", "--corpus", "demo", "--tokenizer", "", "--output-dir", "new"), "corpus.tokenizer"),
    "no corpus to transfer from": (
        ("reproduce", "table5", "--corpus", "demo", "--transfer", "", "--output-dir", "new", "--dry-run"),
        "there is no ''",
    ),
    "run without a checkpoint": (("sample", "begun"), "begun is a run without a checkpoint"),
    "unknown device": (("sample", "run", "--device", "abacus"), "--device abacus"),
    "texts that are not there": (("encode", "run", "none.txt", "-o", "new.npy"), "no file none.txt"),
    "folder as texts": (("encode", "run", "empty", "-o", "new.npy"), "no file empty"),
    "empty file as texts": (("encode", "run", "empty.txt", "-o", "new.npy"), "empty.txt is empty"),
    "texts of unknown suffix": (("encode", "run", "strange.xyz", "-o", "new.npy"), ".jsonl"),
    "texts that are not UTF-8": (("encode", "run", "latin.txt", "-o", "new.npy"), "line 1 is not UTF-8"),
    "unknown column": (("encode", "run", "three.csv", "--text-column", "text", "-o", "new.npy"), "review, stars"),
    "unknown features": (("encode", "run", "three.txt", "-o", "new.npy", "--features", "sum"), "mean_variance"),
    "features of unknown suffix": (("encode", "run", "three.txt", "-o", "new.xlsx"), ".parquet"),
    "columns in an array": ((*ENCODE, "new.npy", "--keep", "stars"), "an array of numbers"),
    "a column to keep that is not there": (
        (*ENCODE, "new.csv", "--keep", "id"),
        "no column 'id'",
    ),
    "columns to keep and none": ((*ENCODE, "new.csv", "--keep", "stars", "--no-keep"), "give one of them"),
    "features without a suffix": (("encode", "run", "three.txt", "-o", "new"), ".parquet"),
    "features below a file": (("encode", "run", "three.txt", "-o", "file/new.npy"), "file is a file"),
    "scores of unknown suffix": (("score", "run", "three.txt", "-o", "new.npy"), ".jsonl"),
    "no samples and some": (("score", "run", "three.txt", "-o", "new.csv", "--quick", "--nll-samples", "5"), "either"),
    "quantiles among texts that are not there": (
        ("score", "run", "three.txt", "-o", "new.csv", "--reference", "none.txt"),
        "no file none.txt",
    ),
    "quantiles among a set that is not there": (
        ("score", "run", "three.txt", "-o", "new.csv", "--reference", "dev"),
        "nor a set of this name: train, validation, test",
    ),
    "quantiles among texts that are not known": (
        ("score", CARD, "three.txt", "-o", "new.csv", "--reference", "train"),
        f"the training texts of {CARD}",
    ),
    "scores below a file": (("score", "run", "three.txt", "-o", "file/new.csv"), "file is a file"),
    "scores of texts that are not there": (("score", "run", "none.txt", "-o", "new.csv"), "no file none.txt"),
    "seed that is too large": (("sample", "run", "--seed", str(2**64)), "seed must be at least 0 and below 2**63"),
    "more than fits into memory": (("interpolate", "run", "a", "b", "--steps", str(10**15)), "not enough memory"),
    "text that is not UTF-8": (("reconstruct", "run", "caf\udce9"), "not UTF-8"),
    "end that is not UTF-8": (("interpolate", "run", "a", "caf\udce9"), "not UTF-8"),
    "input that is not there": (("reconstruct", "run", "--input", "none.txt"), "no file none.txt"),
    "columns of no file for the mixture": (
        ("sample", "run", "--prior", "aggregate", "--label-column", "stars"),
        "--texts FILE",
    ),
    "a folder for texts that the mixture is not fitted to": (("sample", "run", "--data-dir", "."), "--prior aggregate"),
    "columns of no file to reconstruct": (("reconstruct", "run", "fine", "--text-column", "review"), "--input FILE"),
    "columns of no file to export": (("export", "run", "--output", "new", "--text-column", "review"), "of FILE"),
    "unknown split": (("evaluate", "run", "--split", "dev"), "validation"),
    "unknown precision": (("evaluate", "run", "--precision", "fp8"), "no, bf16"),
    "evaluation into a folder": (("evaluate", "run", "--output", "empty"), "empty is a folder"),
    "evaluation below a file": (("evaluate", "run", "--output", "file/new.json"), "file is a file"),
    "evaluation on an unknown device": (("evaluate", "run", "--device", "abacus"), "--device abacus"),
    "evaluation of nothing": (("evaluate", "none"), "no folder none"),
    "results of nothing": (("results", "none"), "no folder none"),
    "results of a run": (("results", "run"), "CORPUS/METHOD"),
    "demo where a file is": (("demo", "--output-dir", "file"), "file is a file"),
    "demo with an unknown field": (("demo", "--output-dir", "new", "--set", "training.epoch=1"), "epochs"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_a_sentence_and_leaves_nothing_behind(folder: Path, name: str) -> None:
    arguments, told = MISTAKES[name]
    before = files(folder)
    result = invoke(*arguments, code=1)
    message = result.stderr[result.stderr.rindex("seqvae: ") :]
    assert told in message and len(message) > 20
    assert result.stdout == ""
    assert files(folder) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("train", "--output-dir"),
        ("train", "--output-dir", "new", "--nonsense"),
        ("sample",),
        ("sample", "run", "-n", "0"),
        ("sample", "run", "-n", "many"),
        ("sample", "run", "--top-p", "2"),
        ("sample", "run", "--seed", "-1"),
        ("encode", "run", "three.txt"),
        ("encode", "run", "three.txt", "-o", "new.npy", "--batch-size", "0"),
        ("reconstruct", "run"),
        ("reproduce", "table1", "--methods", ""),
        ("reconstruct", "run", "a text", "--input", "three.txt"),
        ("interpolate", "run", "only one"),
        ("interpolate", "run", "a", "b", "--steps", "1"),
        ("evaluate", "run", "--nll-samples", "0"),
    ],
)
def test_wrong_usage_is_exit_code_two(folder: Path, arguments: tuple[str, ...]) -> None:
    before = files(folder)
    result = invoke(*arguments, code=2)
    assert result.stdout == "" and "Error" in result.stderr
    assert files(folder) == before


def test_no_command_shows_the_help() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2 and "interpolate" in result.output


def test_bytes_that_are_not_utf8_on_standard_input(folder: Path) -> None:
    assert "not UTF-8" in invoke("reconstruct", "run", "--input", "-", stdin=b"fine\ncaf\xe9\n", code=1).stderr


def test_what_cannot_be_written_is_refused_before_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(folder)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    for arguments in (
        (*TRAIN, "new"),
        ("evaluate", "run", "--output", "new/figures.json"),
        ("evaluate", "run"),
        ("encode", "run", "three.txt", "-o", "new.npy"),
        ("score", "run", "three.txt", "-o", "new.csv"),
        ("demo", "--output-dir", "new"),
    ):
        place = "run" if arguments == ("evaluate", "run") else folder
        assert f"{place} is not writable" in invoke(*arguments, code=1).stderr
    assert "--corpus" in invoke("evaluate", CARD, code=1).stderr  # nothing is kept in a checkpoint that is no run's
    assert files(folder) == before


def test_a_launcher_that_is_not_installed_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    told = invoke(*TRAIN, "new", code=1).stderr
    assert "DeepSpeed is not installed" in told and "Traceback" not in told and not (folder / "new").exists()


def test_debug_shows_where_an_error_arose() -> None:
    result = CliRunner().invoke(app, ["--debug", "sample", "none"])
    assert isinstance(result.exception, FileNotFoundError)


def test_a_very_long_line_is_cut_and_told(folder: Path) -> None:
    (folder / "long.txt").write_text("food " * 50_000 + "\n")
    result = invoke("encode", "run", "long.txt", "-o", "long.npy", "--features", "mean")
    assert "1 cut at 200 words" in result.stderr and np.load(folder / "long.npy").shape == (1, 3)


def test_a_closed_pipe_ends_a_command_quietly(folder: Path) -> None:
    """As in `seqvae sample RUN | head`: a process, since what Python does at its end counts."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "modeling_seqvae", "sample", "run", "-n", "2"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, env=environment, cwd=folder, text=True)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_quick_look_does_not_overwrite_a_long_evaluation(folder: Path) -> None:
    kept = folder / "run" / "evaluation.json"
    kept.write_text(
        json.dumps({"nll_sentences": 1000, "nll_samples": 500, "weights": weights_hash(folder / "run" / "best")})
    )
    before = kept.read_text()
    invoke("evaluate", "run", *QUICK)
    assert kept.read_text() == before
    assert json.loads((folder / "run" / "evaluation-nll12x3.json").read_text())["nll_samples"] == 3


def test_a_longer_evaluation_takes_the_usual_name_and_keeps_the_quick_look(folder: Path) -> None:
    kept = folder / "run" / "evaluation.json"
    kept.write_text(
        json.dumps({"nll_sentences": 2, "nll_samples": 1, "weights": weights_hash(folder / "run" / "best")})
    )
    before = kept.read_text()
    invoke("evaluate", "run", *QUICK)
    assert (folder / "run" / "evaluation-nll2x1.json").read_text() == before
    assert json.loads(kept.read_text())["nll_samples"] == 3


@pytest.mark.parametrize(
    ("sentences", "samples", "has_the_usual_name"), [(2, 4, True), (10_000, 2, False), (4, 3, False), (12, 3, False)]
)
def test_more_draws_a_sentence_come_before_more_sentences(
    folder: Path, sentences: int, samples: int, has_the_usual_name: bool
) -> None:
    kept = folder / "run" / "evaluation.json"
    of_them = {"weights": weights_hash(folder / "run" / "best")}
    kept.write_text(json.dumps({"nll_sentences": sentences, "nll_samples": samples, **of_them}))
    before = kept.read_text()
    invoke("evaluate", "run", *QUICK)  # 12 sentences, 3 draws each
    assert (kept.read_text() == before) == has_the_usual_name
    if (sentences, samples) != (12, 3):
        other = "12x3" if has_the_usual_name else f"{sentences}x{samples}"
        assert (folder / "run" / f"evaluation-nll{other}.json").is_file()


def test_an_evaluation_of_other_weights_is_not_kept(folder: Path) -> None:
    kept = folder / "run" / "evaluation.json"
    kept.write_text(json.dumps({"nll_sentences": 1000, "nll_samples": 500, "weights": "others"}))
    invoke("evaluate", "run", *QUICK)
    assert json.loads(kept.read_text())["nll_samples"] == 3


def test_both_precisions_in_one_process(folder: Path) -> None:
    for precision in ("bf16", "no", "bf16"):
        invoke("evaluate", "run", *QUICK, "--precision", precision, "--output", "apart/figures.json")
        assert json.loads((folder / "apart" / "figures.json").read_text())["precision"] == precision


def test_an_evaluation_in_another_precision_stands_beside(folder: Path) -> None:
    kept = folder / "run" / "evaluation.json"
    of_them = {"precision": "bf16", "weights": weights_hash(folder / "run" / "best")}
    kept.write_text(json.dumps({"nll_sentences": 1, "nll_samples": 1, **of_them}))
    before = kept.read_text()
    invoke("evaluate", "run", *QUICK, "--precision", "no")
    assert kept.read_text() == before
    made = json.loads((folder / "run" / "evaluation-float32.json").read_text())
    assert made["precision"] == "no" and len(made["weights"]) == 64
