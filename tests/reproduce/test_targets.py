import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modeling_seqvae.data.corpus_spec import checksum_of_files, spec_from_path
from modeling_seqvae.evaluation.table import markdown
from modeling_seqvae.reproduce import runner as module
from modeling_seqvae.reproduce.request import Request, published, rows_of
from modeling_seqvae.reproduce.results import results_markdown
from modeling_seqvae.reproduce.rows import of_test_set
from modeling_seqvae.reproduce.runner import (
    document,
    document_again,
    in_order,
    print_commands,
    reproduce,
    run_step,
    show_missing,
    write,
)
from modeling_seqvae.reproduce.steps import FILES, FINISHED, Training
from modeling_seqvae.reproduce.tables import WITHOUT
from modeling_seqvae.reproduce.targets import TARGETS
from modeling_seqvae.training.configuration import available

PTB = Request("ptb", "small", limits={"train": 10_000})
YAHOO = Request("yahoo", "small")
MINE = ("table1", "table2", "table3", "table4", "figure3", "figure4")
SIZES = {"train": 10_000, "validation": 3_370}
BENCHMARK = {"train": 100_000, "validation": 10_000}


def record(epoch: int, bound: float = 100.0, kl: float = 1.0, updates: int = 313, **more: Any) -> dict[str, Any]:
    counts = {"encoder_updates": updates * epoch, "decoder_updates": updates * epoch, "seconds": 36.0 * epoch}
    return {"epoch": epoch, "bound": bound, "kl": kl, "mi": 0.5, "au": 2, "cosine": 0.4, **counts, **more}


def add_run(folder: Path, training: Training, *history: dict[str, Any], sizes: dict[str, int] | None = SIZES) -> Path:
    """What a training leaves, but for the weights; without `sizes`, one that is not at its end."""
    run = folder / training.folder
    run.mkdir(parents=True)
    training.recipe.save(run / "recipe.yaml")
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history or [record(1)]))
    if sizes:
        (run / FINISHED).write_text(json.dumps({"documents": sizes}))
    return run


def evaluation(training: Training, nll: float, **more: Any) -> dict[str, Any]:
    """What an evaluation of a run on 3,761 test sentences holds."""
    latent = training.recipe.model.get("latent_size") != 0
    found = {"title": training.recipe.title, "corpus": training.recipe.corpus.name, "split": "test", "limit": None}
    found |= {"sentences": 3761, "nll": nll, "nll_se": 0.5, "nll_sentences": 3761, "seed": 0, "shuffled": False}
    found |= {"nll_gap": 1.0, "nll_gap_se": 0.02}
    found |= {"bound": nll + 1, "rec": nll, "kl": 1.0, "ppl": 99.0, "nll_samples": 500 if latent else 1}
    figures = {"mi": 0.75, "au": 3, "cosine": 0.5, "mi_corpus": 0.8, "mi_equal_length": 0.7}
    return found | (figures if latent else dict.fromkeys(figures)) | more


def evaluated(
    folder: Path, training: Training, nll: float, sizes: dict[str, int] = SIZES, **more: Any
) -> dict[str, Any]:
    """A run with its evaluation, which is returned."""
    report = evaluation(training, nll, **more)
    (add_run(folder, training, sizes=sizes) / "evaluation.json").write_text(json.dumps(report))
    return report


def rows(target: str, request: Request, folder: Path, number: int = 0) -> dict[str, dict[str, Any]]:
    """The rows of a target's table, by method."""
    return {row["method"]: dict(row) for row in TARGETS[target].report(request, folder).tables[number].rows}


def cells(text: str, title: str) -> list[str]:
    """The cells of the Markdown row with a title."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_table1_has_the_rows_of_the_paper_and_ours_in_order():
    assert rows_of("table1") == [
        *("lstm_lm", "seqvae", "word_drop", "skip_vae", "wae_rnf", "cyclical", "aggressive"),
        *("avg_pool", "abs_pool", "max_pool", "attention", "beta_vae", "ivae", "ivae_mi"),
        *("minimum_rate", "vmf", "dilated_cnn", "sa_vae", "hybrid"),
    ]
    steps = in_order(TARGETS["table1"].steps(PTB))
    assert [step.recipe.method for step in steps if isinstance(step, Training)] == rows_of("table1")


def test_every_row_of_every_target_is_a_method_and_every_published_figure_is_of_a_row():
    for target in MINE:
        assert set(rows_of(target)) <= set(available("methods"))
        for corpus in ("yahoo", "yelp") if target.startswith("table") else ():
            assert set(published(target, corpus)) <= set(rows_of(target))


def test_published_figures_are_those_of_the_paper():
    assert published("table1", "yahoo")["max_pool"] == {"nll": 327.2, "kl": 3.7, "mi": 2.5, "au": 9}
    assert published("table1", "yelp")["ivae_mi"] == {"nll_bar": 348.7, "kl": 11.6, "mi": 11.0, "au": 32}
    assert published("table2", "yelp")["aggressive"] == {"hours": 18.62, "updates": 625_000}
    assert published("table3", "yahoo")["skip_vae"] == {"without": 329.1, "with": 328.1}
    assert published("table4", "yelp")["max_pool"] == {"nll": 356.0, "shuffled": 356.7}
    assert published("table1", "ptb") == {}


def test_a_caption_says_that_the_test_set_was_cut():
    limited = replace(PTB, limits={"test": 2000})
    assert of_test_set(limited, [2000, 2000]) == "the first 2,000 test sentences"
    assert of_test_set(limited, [1500], "documents") == "1,500 test documents", "a smaller set is whole"
    assert of_test_set(limited, [1500, 2000]) == "1,500 to 2,000 test sentences"
    assert of_test_set(PTB, [2000]) == "2,000 test sentences" and of_test_set(PTB, []) == "no test sentences"


def test_table1_shows_the_figures_of_the_evaluations(tmp_path):
    request = replace(PTB, methods=("lstm_lm", "seqvae", "ivae"))
    language = evaluated(tmp_path, request.training("lstm_lm", 0), 101.25)
    plain = evaluated(tmp_path, request.training("seqvae", 0), 102.5)
    dual = {"nll_bar": 95.5, "dual_kl": 0.5, "dual_kl_mc": 0.01, "kl_above_dual": 0.5, "kl_above_dual_se": 0.02}
    dual |= {"nll_bar_above_bound": -8.0, "nll_bar_above_nll": -7.0, "dual_mi": 0.1}
    evaluated(tmp_path, request.training("ivae", 0), 103.5, **dual)
    found = rows("table1", request, tmp_path)
    for method, report in (("lstm_lm", language), ("seqvae", plain)):
        for name in ("nll", "bound", "kl", "ppl", "mi", "au"):
            assert (found[method][name] and found[method][name].mean) == report[name]
    text = document("table1", request, tmp_path)
    # NLL, NLL-bar, -ELBO, KL, MI, AU, PPL
    assert cells(text, "LSTM-LM") == ["101.25", "–", "102.25", "1.00", "–", "–", "99.00"]
    assert cells(text, "SeqVAE") == ["102.50", "–", "103.50", "1.00", "0.75", "3", "99.00"]
    assert "| iVAE | 103.50 | 95.50 | 104.50 |" in text and "KL minus dual KL" in text and "-8.000" in text
    for part in ("3,761 test sentences", "first 10,000 training documents", "500 importance samples"):
        assert part in text
    assert text.startswith("Made by `seqvae reproduce table1 --corpus ptb --preset small --methods lstm_lm,")


def test_several_seeds_are_mean_and_deviation_and_a_missing_one_is_told(tmp_path):
    request = replace(PTB, methods=("seqvae", "max_pool"), seeds=3)
    nlls = [101.0, 103.5, 102.0]
    for training, nll in zip(request.trainings("seqvae"), nlls, strict=True):
        evaluated(tmp_path, training, nll)
    evaluated(tmp_path, request.training("max_pool", 1), 99.0)
    text = document("table1", request, tmp_path)
    assert cells(text, "SeqVAE")[0] == f"{np.mean(nlls):.2f} ± {np.std(nlls, ddof=1):.2f}"
    assert cells(text, "SeqVAE + MaxPool (1 of 3 seeds)")[0] == "99.00"
    assert "mean ± standard deviation over 3 seeds" in text


def test_a_row_without_figures_stays_and_is_marked(tmp_path):
    request = replace(PTB, methods=("seqvae", "max_pool"))
    evaluated(tmp_path, request.training("seqvae", 0), 101.0)
    assert set(cells(document("table1", request, tmp_path), "SeqVAE + MaxPool (missing)")) == {"–"}


@pytest.mark.parametrize(
    ("request_", "sizes", "sentences", "beside"),
    [
        (YAHOO, BENCHMARK, 10_000, True),
        (YAHOO, {"train": 10_000, "validation": 10_000}, 10_000, False),
        (YAHOO, {"train": 100_000, "validation": 9_999}, 10_000, False),
        (YAHOO, BENCHMARK, 500, False),
        (Request("ptb", "small"), BENCHMARK, 10_000, False),
    ],
)
def test_the_paper_stands_beside_ours_only_on_its_benchmark(tmp_path, request_, sizes, sentences, beside):
    request = replace(request_, methods=("seqvae", "max_pool"))
    counts = {"sentences": sentences, "nll_sentences": sentences}
    for method in request.methods:
        training = request.training(method, 0)
        report = evaluated(tmp_path, training, 330.0, sizes, **counts)
        shuffled = json.dumps(report | {"shuffled": True})
        (tmp_path / training.folder / "evaluation-shuffled.json").write_text(shuffled)
    for target, figures in (("table1", ("327.2", "3.7", "2.5")), ("table4", ("327.2", "327.3"))):
        text = document(target, request, tmp_path)
        shown = [cell for cell in cells(text, "SeqVAE + MaxPool") if cell in figures]
        assert (shown == list(figures)) == beside and ("paper" in text.partition("\n")[2]) == beside


def test_table2_has_hours_updates_and_their_ratios(tmp_path):
    history = [record(1, 110.0), record(2, 104.0), record(3, 105.0)]
    slow = [
        line | {"encoder_updates": line["encoder_updates"] * 20, "seconds": line["seconds"] * 8} for line in history
    ]
    add_run(tmp_path, PTB.training("aggressive", 0), *slow)
    add_run(tmp_path, PTB.training("max_pool", 0), *history[:2], record(3, 103.0))
    found = rows("table2", PTB, tmp_path)
    assert found["aggressive"]["hours"].mean == pytest.approx(8 * 108 / 3600)
    assert found["aggressive"]["encoder_updates"].mean == 20 * 939 and found["aggressive"]["best_epoch"].mean == 2
    assert found["max_pool"]["best_decoder_updates"].mean == 939
    ratio = rows("table2", PTB, tmp_path, 1)["aggressive"]
    assert ratio["hours"] == pytest.approx(8) and ratio["encoder_updates"] == pytest.approx(20)
    assert ratio["decoder_updates"] == 1 and ratio["best_hours"] == pytest.approx(8 * 2 / 3)


def test_table2_waits_for_the_end_of_a_run(tmp_path):
    add_run(tmp_path, PTB.training("aggressive", 0), sizes=None)
    add_run(tmp_path, PTB.training("max_pool", 0))
    assert "SeqVAE + Aggressive (missing)" in document("table2", PTB, tmp_path)
    with pytest.raises(ValueError, match="at least two"):
        TARGETS["table2"].steps(replace(PTB, methods=("seqvae",)))


def test_table3_sets_runs_without_annealing_beside_those_of_table1(tmp_path):
    request = replace(PTB, methods=("max_pool",), seeds=2)
    for seed, (plain, without) in enumerate([(101.0, 103.0), (102.0, 105.0)]):
        evaluated(tmp_path, request.training("max_pool", seed), plain)
        evaluated(tmp_path, request.training("max_pool", seed, WITHOUT), without)
    row = rows("table3", request, tmp_path)["max_pool"]
    assert row["with"].values == (101.0, 102.0) and row["without"].values == (103.0, 105.0)
    assert row["difference"].values == (2.0, 3.0)
    unannealed = request.training("max_pool", 0, WITHOUT).recipe.training
    assert {unannealed.kl_weight(epochs) for epochs in (0.0, 0.5, 20.0)} == {1.0}


def test_table4_compares_the_same_runs_with_and_without_shuffling(tmp_path):
    request = replace(PTB, methods=("max_pool",))
    training = request.training("max_pool", 0)
    report = evaluated(tmp_path, training, 101.0)
    shuffled = report | {"nll": 102.5, "bound": 104.0, "shuffled": True}
    (tmp_path / training.folder / "evaluation-shuffled.json").write_text(json.dumps(shuffled))
    row = rows("table4", request, tmp_path)["max_pool"]
    assert (row["nll"].mean, row["shuffled_nll"].mean, row["nll_difference"].mean) == (101.0, 102.5, 1.5)
    assert row["bound_difference"].mean == 2.0


def test_table4_tells_of_the_evaluations_that_it_shows_alone(tmp_path):
    """One without its shuffled counterpart is in no row, and so not in what the caption says of sentences and draws."""
    request = replace(PTB, methods=("max_pool",), seeds=2)
    report = evaluated(tmp_path, request.training("max_pool", 0), 101.0)
    shuffled = report | {"nll": 102.5, "bound": 104.0, "shuffled": True}
    (tmp_path / request.training("max_pool", 0).folder / "evaluation-shuffled.json").write_text(json.dumps(shuffled))
    paired = TARGETS["table4"].report(request, tmp_path).tables[0]
    evaluated(tmp_path, request.training("max_pool", 1), 109.0, nll_gap_se=0.7)
    table = TARGETS["table4"].report(request, tmp_path).tables[0]
    assert (table.caption, table.rows[0]["nll"].values) == (paired.caption, (101.0,))


def test_an_evaluation_with_a_word_for_a_number_is_named(tmp_path):
    request = replace(PTB, methods=("max_pool",))
    training = request.training("max_pool", 0)
    evaluated(tmp_path, training, 101.0, kl="much")
    path = tmp_path / training.folder / "evaluation.json"
    with pytest.raises(ValueError, match=rf"{path} is not what a run writes: its kl is 'much', where a number belongs"):
        TARGETS["table1"].report(request, tmp_path)


@pytest.mark.parametrize("target", ["figure3", "figure4"])
def test_figures_draw_the_histories_and_tabulate_their_ends(tmp_path, target):
    for method in rows_of(target)[:2]:
        history = [record(1, 110.0, kl=3.0), record(2, 104.0, kl=2.0), record(3, 105.0, kl=1.0)]
        add_run(tmp_path, PTB.training(method, 0), *history)
    report = TARGETS[target].report(PTB, tmp_path)
    report.picture(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    row = rows(target, PTB, tmp_path)[rows_of(target)[1]]
    assert (row["best_kl"].mean, row["kl"].mean, row["best_epoch"].mean, row["epochs"].mean) == (2.0, 1.0, 2, 3)
    assert "(missing)" in document(target, PTB, tmp_path)


def test_a_run_that_stopped_early_is_drawn_and_marked(tmp_path):
    request = replace(PTB, methods=("seqvae",))
    add_run(tmp_path, request.training("seqvae", 0), record(1), record(2), sizes=None)
    assert "| SeqVAE (stopped after epoch 2) |" in document("figure3", request, tmp_path)
    two = replace(request, seeds=2)
    add_run(tmp_path, two.training("seqvae", 1), record(1), record(2), record(3))
    assert rows("figure3", two, tmp_path)["seqvae"]["epochs"].values == (3,)  # the whole one alone
    assert "| SeqVAE (1 of 2 seeds) |" in document("figure3", two, tmp_path)


@pytest.mark.parametrize("target", ["figure3", "table3"])
def test_a_language_model_has_neither_curves_nor_annealing(target):
    with pytest.raises(ValueError, match="lstm_lm"):
        TARGETS[target].steps(replace(PTB, methods=("seqvae", "lstm_lm")))


def test_figures_of_a_run_that_goes_on_are_not_its_figures(tmp_path):
    training = PTB.training("seqvae", 0)
    evaluated(tmp_path, training, 101.0)
    (tmp_path / training.folder / FINISHED).unlink()
    assert not PTB.evaluation(training).done(tmp_path)  # or nothing would measure it at its end
    assert "SeqVAE (missing)" in document("table1", replace(PTB, methods=("seqvae",)), tmp_path)


@pytest.mark.parametrize(("kept", "asked"), [("texts", None), (None, "texts")])
def test_a_run_on_the_hubs_sample_is_not_taken_for_one_on_files(tmp_path, kept, asked):
    request = replace(YAHOO, data_dir=asked and Path(asked))
    training = request.training("seqvae", 0)
    run = add_run(tmp_path, training)
    training.recipe.model_copy(update={"data_dir": kept}).save(run / "recipe.yaml")
    with pytest.raises(ValueError, match="--data-dir"):
        training.done(tmp_path)
    assert replace(request, data_dir=kept and Path(kept)).training("seqvae", 0).done(tmp_path)


def test_a_run_on_texts_that_have_changed_is_refused(tmp_path):
    texts = tmp_path / "mine.txt"
    texts.write_text("one text\nand another\n" * 50)
    training = Request(spec_from_path(texts), "tiny").training("seqvae", 0)
    run = add_run(tmp_path, training)
    sizes = json.loads((run / FINISHED).read_text())
    (run / FINISHED).write_text(json.dumps(sizes | {FILES: checksum_of_files(training.recipe.corpus)}))
    assert training.done(tmp_path)
    texts.write_text("other texts\nthan there were\n" * 50)
    with pytest.raises(ValueError, match="the files of mine are not what they were then"):
        training.done(tmp_path)
    texts.unlink()  # what was made of them stays
    assert training.done(tmp_path)


def test_a_run_at_its_end_has_a_history(tmp_path):
    training = PTB.training("seqvae", 0)
    (add_run(tmp_path, training) / "history.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"history.jsonl has no record of a run that has ended"):
        training.done(tmp_path)


def test_hours_of_other_processors_are_not_compared_without_a_word(tmp_path):
    request = replace(PTB, methods=("aggressive", "max_pool"))
    for method, threads in (("aggressive", 2), ("max_pool", 1)):
        run = add_run(tmp_path, request.training(method, 0))
        (run / FINISHED).write_text(json.dumps({"documents": SIZES, "device": "cpu", "threads": threads}))
    assert "their threads were 1 on cpu, 2 on cpu" in document("table2", request, tmp_path)


def test_the_command_that_made_a_document_can_be_given_again(tmp_path):
    (tmp_path / "reviews.csv").write_text("words,stars\n")
    own = spec_from_path(tmp_path / "reviews.csv", "words", "stars")
    command = Request(own, "tiny", overrides=("training.epochs=1",)).command("table1")
    assert command.endswith("--set training.epochs=1 --text-column words --label-column stars")


def test_targets_share_their_runs():
    keys = {name: {step.key for step in in_order(TARGETS[name].steps(PTB))} for name in MINE}
    for name in ("table2", "figure3", "figure4"):
        assert keys[name] < keys["table1"]
    assert {key for key in keys["table3"] - keys["table1"] if "constant" not in key} == set()
    assert len(keys["table4"] - keys["table1"]) == 5  # the shuffled evaluations


def test_what_is_there_is_neither_trained_nor_measured_again(tmp_path):
    request = replace(PTB, methods=("seqvae",))
    training = request.training("seqvae", 0)
    evaluated(tmp_path, training, 101.0)
    assert all(step.done(tmp_path) for step in in_order(TARGETS["table1"].steps(request)))
    fewer = in_order(TARGETS["table1"].steps(replace(request, nll_sentences=100)))
    assert [step.done(tmp_path) for step in fewer] == [True, False]  # trained, but measured with other settings


def test_figures_of_other_weights_are_measured_again(tmp_path):
    training = PTB.training("seqvae", 0)
    report = evaluated(tmp_path, training, 101.0)
    step, run = PTB.evaluation(training), tmp_path / training.folder
    (run / "evaluation.json").write_text(json.dumps(report | {"weights": "abc"}))
    assert step.done(tmp_path)  # the weights are not kept
    (run / "best").mkdir()
    for weights, done in (("abc", True), ("def", False)):
        (run / "best" / "checksums.json").write_text(json.dumps({"model.safetensors": weights}))
        assert step.done(tmp_path) == done


def test_of_several_evaluations_the_one_of_these_weights_and_in_float32_counts(tmp_path):
    training = PTB.training("seqvae", 0)
    report = evaluated(tmp_path, training, 100.0, weights="new")
    step, run = PTB.evaluation(training), tmp_path / training.folder
    (run / "evaluation-bf16.json").write_text(json.dumps(report | {"nll": 200.0, "precision": "bf16"}))
    assert step.read(tmp_path)["nll"] == 100.0
    (run / "best").mkdir()
    (run / "best" / "checksums.json").write_text(json.dumps({"model.safetensors": "new"}))
    (run / "evaluation-bf16.json").write_text(json.dumps(report | {"nll": 300.0, "weights": "old"}))
    assert step.done(tmp_path) and step.read(tmp_path)["nll"] == 100.0
    (run / "evaluation.json").unlink()
    assert not step.done(tmp_path) and step.read(tmp_path) is None


def test_a_run_of_another_recipe_is_refused_before_anything_runs(tmp_path):
    training = PTB.training("seqvae", 0)
    run = add_run(tmp_path, training)
    replace_ = training.recipe.model_copy(
        update={"training": training.recipe.training.model_copy(update={"epochs": 3})}
    )
    replace_.save(run / "recipe.yaml")
    with pytest.raises(ValueError, match=r"another recipe: training.epochs is 3 there and 30 here"):
        reproduce("table1", replace(PTB, methods=("seqvae",)), tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("evaluation.json", "no JSON", "evaluation.json is not readable"),
        ("history.jsonl", "[1]\n", "holds no object"),
        ("history.jsonl", '{"epoch": 1}\n', "lacks au, bound, cosine"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, content, told):
    training = PTB.training("seqvae", 0)
    evaluated(tmp_path, training, 101.0)
    (tmp_path / training.folder / file).write_text(content)
    target = "table1" if file == "evaluation.json" else "figure3"
    with pytest.raises(ValueError, match=told):
        TARGETS[target].report(replace(PTB, methods=("seqvae",)), tmp_path)


def test_markdown_json_and_picture_are_written_and_made_again_from_the_runs_alone(tmp_path, capsys):
    request, folder = replace(PTB, methods=("seqvae", "max_pool")), tmp_path / "ptb"
    for number, method in enumerate(request.methods):
        evaluated(tmp_path, request.training(method, 0), 101.0 + number)
    for target in ("table1", "figure3"):
        write(target, request, tmp_path)
        assert (folder / f"{target}.md").read_text() == document_again(folder / f"{target}.json")
    assert "SeqVAE + MaxPool" in capsys.readouterr().out
    assert "![figure3](figure3.png)" in (folder / "figure3.md").read_text()
    assert (folder / "figure3.png").is_file() and not (folder / "table1.png").exists()
    made = json.loads((folder / "table1.json").read_text())
    assert made["tables"][0]["rows"][1]["nll"] == {"mean": 102.0, "values": [102.0]}
    shutil.copytree(folder, tmp_path / "copy" / "ptb")
    assert document_again(tmp_path / "copy" / "ptb" / "table1.json") == (folder / "table1.md").read_text()


def test_the_results_command_reads_the_same_folder(tmp_path):
    evaluated(tmp_path, PTB.training("seqvae", 0), 101.0)
    (tmp_path / "ptb" / "table1.md").write_text("beside the runs")
    (tmp_path / "notes.md").write_text("beside the corpora")
    text = results_markdown(tmp_path)
    assert text.startswith("### ptb") and "| SeqVAE, small-train10000, seed0 | 101.00 |" in text


def test_a_dry_run_lists_what_is_missing_and_writes_nothing(tmp_path, capsys):
    request = replace(PTB, methods=("seqvae", "max_pool", "avg_pool"), seeds=2, nll_sentences=100)
    add_run(tmp_path, request.training("seqvae", 0))
    add_run(tmp_path, request.training("max_pool", 0), *map(record, range(1, 5)), sizes=None)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    show_missing("table1", request, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    printed = capsys.readouterr()
    lines = [" ".join(line.split()) for line in printed.out.splitlines()]
    assert "SeqVAE + MaxPool, seed 0 to resume after epoch 4 ptb/max_pool/small-train10000/seed0" in lines
    assert "SeqVAE + MaxPool, seed 1 to train ptb/max_pool/small-train10000/seed1" in lines
    assert (
        "SeqVAE, seed 0: evaluation to measure ptb/seqvae/small-train10000/seed0/evaluation-nll100" in lines
        and not any(line.startswith("SeqVAE, seed 0 to") for line in lines)
    )
    assert len(lines) == 11 and printed.err == "trainings: 1 done, 5 to do; measurements: 0 done, 6 to do\n"


def test_a_dry_run_of_a_finished_target_prints_nothing(tmp_path, capsys):
    request = replace(PTB, methods=("seqvae",))
    evaluated(tmp_path, request.training("seqvae", 0), 101.0)
    for show in (show_missing, print_commands):
        show("table1", request, tmp_path)
        assert capsys.readouterr() == ("", "nothing is left to do: 2 of 2 steps are finished\n")


def test_the_commands_say_all_that_the_steps_are(tmp_path, capsys):
    out = tmp_path / "my runs"
    request = Request(
        "ptb", "small", ("seqvae",), 1, {"train": 90, "test": 8}, ("training.epochs=3",), Path("texts"), 5
    )
    print_commands("table4", request, out)
    trained, *measured = capsys.readouterr().out.splitlines()
    run = f"'{out}/ptb/seqvae/small-train90-epochs=3/seed0'"
    assert trained == (
        "seqvae train --method seqvae --corpus ptb --preset small --limit train=90 --set training.epochs=3 "
        f"--set training.seed=0 --data-dir texts --output-dir {run} --resume"
    )
    evaluate = f"seqvae evaluate {run} --data-dir texts --limit test=8 --nll-sentences 5"
    assert measured == [evaluate, f"{evaluate} --shuffle"]
    print_commands("positions", request, out)
    _, measured = capsys.readouterr().out.splitlines()
    assert measured == (
        "seqvae reproduce positions --corpus ptb --preset small --methods seqvae --limit train=90 --limit test=8 "
        f"--set training.epochs=3 --nll-sentences 5 --data-dir texts --output-dir '{out}' --step "
        "ptb/seqvae/small-train90-epochs=3/seed0/positions-test8.json"
    )


def test_the_commands_that_need_no_others_come_first(tmp_path, capsys):
    print_commands("table1", replace(PTB, methods=("seqvae", "max_pool"), seeds=2), tmp_path)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["train"] * 4 + ["evaluate"] * 4


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("ptb/none", "--step ptb/none: positions has no such step"),
        ("ptb/seqvae/small-train10000/seed0/positions.json", r"needs ptb/seqvae/small-train10000/seed0 first"),
    ],
)
def test_a_step_that_cannot_run_is_refused(tmp_path, step, told):
    with pytest.raises(ValueError, match=told):
        run_step("positions", PTB, tmp_path, step)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_trained_before_what_is_missing_is_told(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="'table9' is not one of table1, table2"):
        reproduce("table9", PTB, tmp_path)
    with pytest.raises(ValueError, match="--methods bert"):
        reproduce("table1", replace(PTB, methods=("bert",)), tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install matplotlib"):
        reproduce("figure3", PTB, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_step_is_named_and_the_table_is_written_without_it(tmp_path, monkeypatch, capsys):
    request = replace(PTB, methods=("seqvae", "max_pool"))
    evaluated(tmp_path, request.training("seqvae", 0), 101.0)

    def run_steps(steps: Any, output_dir: Path, jobs: int, imports: Any) -> dict[str, str]:
        assert [step.title for step in steps] == ["SeqVAE + MaxPool, seed 0", "SeqVAE + MaxPool, seed 0: evaluation"]
        return {steps[0].key: "the loss is not a number\nmore", steps[1].key: "not tried"}

    monkeypatch.setattr(module, "run_steps", run_steps)
    monkeypatch.setattr(module, "load_corpus", lambda *arguments, **options: None)  # whose files are not here
    with pytest.raises(RuntimeError, match=r"2 of 4 steps failed") as raised:
        reproduce("table1", request, tmp_path, jobs=2)
    assert "  SeqVAE + MaxPool, seed 0: the loss is not a number (log: " in str(raised.value)
    assert "(missing)" in (tmp_path / "ptb" / "table1.md").read_text() and "101.00" in capsys.readouterr().out


def test_texts_that_cannot_be_read_are_told_once_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "run_steps", lambda *arguments, **options: pytest.fail("a step was tried"))
    request = replace(PTB, methods=("seqvae", "max_pool"), data_dir=tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"Corpus ptb: place these files"):
        reproduce("table1", request, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_targets_document_is_a_table_whatever_is_there(tmp_path):
    for target in MINE:
        report = TARGETS[target].report(PTB, tmp_path)
        assert markdown(report.tables[0].rows, report.tables[0].columns) in document(target, PTB, tmp_path)
        assert report.picture is None


def test_two_files_of_one_name_are_told_apart_or_refused(tmp_path):
    (tmp_path / "max_pool.yaml").write_text("title: Mine\nmodel: {pooling_mode: avg}\n")
    request = replace(PTB, methods=("max_pool", str(tmp_path / "max_pool.yaml")))
    with pytest.raises(ValueError, match="give one of the files another name"):
        in_order(TARGETS["table1"].steps(request))
