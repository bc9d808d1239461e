import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from modeling_seqvae.data.columns import identity_of
from modeling_seqvae.reproduce.results import results_markdown
from modeling_seqvae.training.recipe import resolve

EVALUATION = {"split": "test", "sentences": 3761, "nll_samples": 500, "nll_sentences": 1000, "mi": 0.5, "au": 2}
EVALUATION |= {"nll_gap": 0.5, "nll_gap_se": 0.01}


def record(epoch: int, bound: float, kl: float, latent: bool = True) -> dict[str, Any]:
    estimates = {"mi": kl / 2, "au": 2, "cosine": 0.4} if latent else {"mi": None, "au": None, "cosine": None}
    cost = {"seconds": 60.0 * epoch, "encoder_updates": 100 * epoch, "decoder_updates": 100 * epoch}
    return {"epoch": epoch, "bound": bound, "rec": bound - kl, "kl": kl, **cost, **estimates}


def add_run(
    run: Path, method: str, *records: dict[str, Any], evaluation: dict[str, Any] | None = None, seed: int = 0
) -> None:
    run.mkdir(parents=True)
    resolve(method, "ptb", overrides=[f"training.seed={seed}"]).save(run / "recipe.yaml")
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in records))
    if evaluation is not None:
        (run / "evaluation.json").write_text(json.dumps(evaluation))


def rows(text: str) -> dict[str, dict[str, str]]:
    """The rows of every table, by title."""
    found, headings = {}, None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else None
        if cells is None:
            headings = None
        elif headings is None:
            headings = cells
        elif not set(cells[0]) <= {"-", ":"}:
            found[cells[0]] = dict(zip(headings, cells, strict=True))
    return found


def test_evaluations_stand_in_a_table_with_what_they_are_of(tmp_path):
    last = EVALUATION | {"title": "SeqVAE", "nll": 106.5, "bound": 107.0, "kl": 0.25}
    pooled = EVALUATION | {"title": "SeqVAE + MaxPool", "nll": 105.25, "bound": 106.0, "kl": 1.75}
    add_run(tmp_path / "ptb" / "seqvae", "seqvae", record(1, 120, 0), record(2, 108, 0.3), evaluation=last)
    add_run(tmp_path / "ptb" / "max_pool", "max_pool", record(1, 119, 0.5), evaluation=pooled)
    text = results_markdown(tmp_path)
    assert text.startswith("### ptb\n\nTest set, 3,761 sentences")
    assert "500 importance samples" in text and "first 1,000" in text
    table = rows(text)
    assert (table["SeqVAE"]["NLL"], table["SeqVAE"]["seconds"]) == ("106.50", "120")
    assert (table["SeqVAE + MaxPool"]["NLL"], table["SeqVAE + MaxPool"]["KL"]) == ("105.25", "1.75")


def test_a_pretraining_is_called_so_once(tmp_path):
    run = tmp_path / "ptb" / "unigram_pretraining"
    add_run(run, "unigram_pretraining", record(1, 119, 6.5))
    stage = resolve("unigram_pretraining", "ptb").pretraining_recipe()
    add_run(run / "pretraining", "unigram_pretraining", record(1, 130, 9.5))
    assert stage
    stage.save(run / "pretraining" / "recipe.yaml")
    title = "MaxPool + unigram pretraining + KL floor"
    assert list(rows(results_markdown(tmp_path))) == [title, f"{title}, pretraining"]


def test_evaluations_of_different_sizes_are_not_passed_off_as_one(tmp_path):
    for method, samples, sentences in (("seqvae", 500, 1000), ("max_pool", 100, 50)):
        evaluation = EVALUATION | {"title": method, "nll_samples": samples, "nll_sentences": sentences}
        add_run(tmp_path / "ptb" / method, method, record(1, 120, 0), evaluation=evaluation)
    assert "100 to 500 importance samples" in results_markdown(tmp_path) and "50 to 1,000" in results_markdown(tmp_path)


def test_every_seed_is_shown_at_its_best_epoch_and_collapses_are_counted(tmp_path):
    for seed, kl in enumerate([0.0, 0.02, 1.5]):
        records = [record(1, 30.0, 3.0), record(2, 25.0 + seed, kl), record(3, 29.0, 4.0)]
        add_run(tmp_path / "demo" / "seqvae" / f"seed{seed}", "seqvae", *records)
    add_run(tmp_path / "demo" / "max_pool" / "seed0", "max_pool", record(1, 26.0, 0.9))
    text = results_markdown(tmp_path)
    assert "SeqVAE 2 of 3" in text and "SeqVAE + MaxPool 0 of 1" in text
    table = rows(text)
    assert [table[f"SeqVAE, seed{seed}"]["-ELBO"] for seed in range(3)] == ["25.00", "26.00", "27.00"]
    assert table["SeqVAE + MaxPool, seed0"]["KL"] == "0.90"
    assert table["SeqVAE, seed0"]["seconds"] == "180"  # of the whole run, as in a table of evaluations


def test_seeds_of_one_recipe_are_averaged_wherever_they_stand(tmp_path):
    for seed, nll in enumerate([101.0, 104.0, 102.0]):
        folder = tmp_path / "ptb" / "max_pool" / "small" / f"seed{seed}" if seed else tmp_path / "ptb" / "mine"
        report = EVALUATION | {"title": "x", "nll": nll, "kl": 1.0, "au": 2 + seed}
        add_run(folder, "max_pool", record(1, 26.0 + seed, 0.9), evaluation=report, seed=seed)
    add_run(tmp_path / "ptb" / "seqvae", "seqvae", record(1, 26.0, 0.9), evaluation=EVALUATION | {"nll": 1.0})
    text = results_markdown(tmp_path)
    row = rows(text)["SeqVAE + MaxPool, 3 seeds"]
    assert (row["NLL"], row["KL"], row["AU"]) == ("102.33 ± 1.53", "1.00 ± 0.00", "3.0 ± 1.0")
    assert "Test set: mean ± standard deviation (n - 1) over seeds." in text and "s.e." not in row
    assert not any(title.startswith("SeqVAE, ") and "seeds" in title for title in rows(text))


def test_a_figure_that_a_seed_lacks_has_no_mean(tmp_path):
    """Earlier evaluations lack some figures of today's."""
    for seed, more in enumerate([{"mi_corpus": 1.0}, {}]):
        report = EVALUATION | {"title": "x", "nll": 100.0 + seed, "kl": 1.0} | more
        add_run(tmp_path / "ptb" / f"run{seed}", "max_pool", record(1, 26.0, 0.9), evaluation=report, seed=seed)
    row = rows(results_markdown(tmp_path))["SeqVAE + MaxPool, 2 seeds"]
    assert row["NLL"] == "100.50 ± 0.71" and "MI corpus" not in row


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(tmp_path):
    add_run(tmp_path / "ptb" / "max_pool" / "seed0", "max_pool", record(1, 26.0, 0.9))
    add_run(tmp_path / "ptb" / "max_pool" / "seed1", "max_pool", record(1, 27.0, 0.9), seed=1)
    for name, seed in (("a", 0), ("b", 0)):  # of one seed
        add_run(tmp_path / "ptb" / "seqvae" / name, "seqvae", record(1, 26.0, 0.9), seed=seed)
    add_run(tmp_path / "ptb" / "avg_pool" / "seed0", "avg_pool", record(1, 26.0, 0.9))
    add_run(tmp_path / "ptb" / "abs_pool" / "seed1", "abs_pool", record(1, 26.0, 0.9), seed=1)
    found = [title for title in rows(results_markdown(tmp_path)) if title.endswith("seeds")]
    assert found == ["SeqVAE + MaxPool, 2 seeds"]


def test_runs_on_other_texts_are_not_averaged(tmp_path):
    texts = {name: Dataset.from_dict({"text": [name, "a b"]}) for name in ("one", "other")}
    for seed, (train, test) in enumerate([("one", "one"), ("one", "other"), ("other", "one")]):
        run = tmp_path / "mine" / f"run{seed}"
        add_run(run, "max_pool", record(1, 26.0 + seed, 0.9))
        recipe = resolve("max_pool", overrides=[f"training.seed={seed}"]).of_data(texts[train], texts[train])
        recipe.model_copy(update={"texts": recipe.texts | {"test": identity_of(texts[test])}}).save(run / "recipe.yaml")
    found = rows(results_markdown(tmp_path))
    assert [found[title]["-ELBO"] for title in found if title.endswith("seeds")] == ["26.50 ± 0.71"]


@pytest.mark.parametrize("other", [{"shuffled": True}, {"limit": 100, "sentences": 100}])
def test_only_an_evaluation_of_the_whole_test_set_in_order_is_one_of_the_run(tmp_path, other):
    """`seqvae evaluate RUN --shuffle --output RUN/evaluation.json` gives it a plain one's name."""
    plain = EVALUATION | {"nll": 106.5, "shuffled": False, "limit": None}
    for name, evaluation in (("plain", plain), ("other", plain | {"nll": 120.0} | other)):
        add_run(tmp_path / "ptb" / name, "max_pool", record(1, 119, 0.5), evaluation=evaluation)
    text = results_markdown(tmp_path)
    assert "106.50" in text and "120.00" not in text and "Test set, 3,761 sentences" in text
    assert rows(text)["SeqVAE + MaxPool, other"]["-ELBO"] == "119.00"  # by its history


def test_a_language_model_is_not_counted_as_collapsed(tmp_path):
    add_run(tmp_path / "demo" / "lstm_lm" / "seed0", "lstm_lm", record(1, 26.0, 0.0, latent=False))
    text = results_markdown(tmp_path)
    assert "1 of 1" not in text and "MI" not in rows(text)["LSTM-LM, seed0"]


def test_each_corpus_has_its_section_in_order(tmp_path):
    for corpus in ("yahoo", "demo", "ptb"):
        add_run(tmp_path / corpus / "seqvae" / "seed0", "seqvae", record(1, 26.0, 0.0))
    (tmp_path / "notes").mkdir()
    headings = [line for line in results_markdown(tmp_path).splitlines() if line.startswith("#")]
    assert headings == ["### demo", "### ptb", "### yahoo"]


def test_a_run_in_its_first_epoch_is_left_out_and_told(tmp_path):
    add_run(tmp_path / "ptb" / "seqvae", "seqvae", record(1, 120, 0))
    add_run(tmp_path / "ptb" / "max_pool", "max_pool")
    with pytest.warns(UserWarning, match="max_pool is left out: the run has not ended its first epoch"):
        assert list(rows(results_markdown(tmp_path))) == ["SeqVAE"]


def test_committed_results_can_be_tabulated():
    assert results_markdown(Path(__file__).parents[2] / "docs" / "results").startswith("### ")


def test_a_folder_without_results_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match=str(folder)):
            results_markdown(folder)


def test_the_folder_of_a_run_is_refused_whose_pretraining_would_be_taken_for_it(tmp_path):
    add_run(tmp_path / "run", "unigram_pretraining", record(1, 120, 0))
    add_run(tmp_path / "run" / "pretraining", "unigram_pretraining", record(1, 130, 0))
    with pytest.raises(ValueError, match="run is a run: name the folder"):
        results_markdown(tmp_path / "run")


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("history.jsonl", "", "has no record: the run has not ended its first epoch"),
        ("history.jsonl", '{"epoch": 1,', "not readable as JSON"),
        ("history.jsonl", '{"epoch": 1, "bound": 3.0, "kl": 0.1}', "lacks au, cosine, .* seconds"),
        ("evaluation.json", "not JSON", "not readable as JSON"),
        ("evaluation.json", "12", "holds no object"),
        ("evaluation.json", '{"split": "test"}', "lacks au, nll_gap_se, nll_samples, nll_sentences, sentences"),
        ("evaluation.json", json.dumps(EVALUATION | {"title": "x", "split": "validation"}), "validation set"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, content, told):
    run = tmp_path / "ptb" / "seqvae"
    add_run(run, "seqvae", record(1, 120, 0), evaluation=EVALUATION | {"title": "SeqVAE"})
    (run / file).write_text(content)
    with pytest.raises(ValueError, match=told) as raised:
        results_markdown(tmp_path)
    assert str(run / file) in str(raised.value)
