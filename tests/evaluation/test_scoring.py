"""A file of scores holds what the model gives each text, however it came about, and tells what is odd about it."""

import json
import math
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from accelerate.state import AcceleratorState
from datasets import Dataset

from modeling_seqvae import SeqVAE
from modeling_seqvae.data.batching import tokenise
from modeling_seqvae.evaluation import evaluate, scoring, shards, writing
from modeling_seqvae.evaluation.evaluate import Evaluator
from modeling_seqvae.evaluation.metrics import bits_per_byte
from modeling_seqvae.evaluation.scoring import Totals, quantiles, score_to_file
from modeling_seqvae.noise import sentence_generator

CHECKPOINT = Path(__file__).resolve().parents[2] / "model_cards" / "demo-max-pool"
KNOWN = ["the staff were friendly .", "a cold room !", "the room was cold , and the staff were slow ."]
TEXTS = ["the soup was warm", "", "the soup " * 20]
READERS = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".jsonl": partial(pd.read_json, lines=True)}
COLUMNS = ["nll", "bound", "tokens", "unknown", "bits_per_byte", "warning"]
pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{told}") for told in ("unknown words", "no words", "vocabulary")]


@pytest.fixture(autouse=True)
def _one_process():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def vae() -> SeqVAE:
    return SeqVAE.from_pretrained(CHECKPOINT)


def rows(texts, **columns):
    return Dataset.from_dict({"text": texts, **columns})


def scored(vae, texts, path, *arguments, **options) -> pd.DataFrame:
    score_to_file(vae, texts if isinstance(texts, Dataset) else rows(texts), path, *arguments, **options)
    return READERS[path.suffix](path)


def test_white_space_at_the_ends_of_a_text_costs_nothing_and_has_no_bytes(vae, tmp_path):
    plain, padded = (scored(vae, [text], tmp_path / f"{len(text)}.csv", 3) for text in (KNOWN[0], f"  {KNOWN[0]}\t "))
    pd.testing.assert_frame_equal(plain, padded)


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("shard_rows", [2, 100])
def test_a_row_holds_what_is_predicted_of_its_text(vae, tmp_path, suffix, shard_rows):
    vae.tokenizer.model_max_length = 12
    output = tmp_path / f"nll{suffix}"
    with pytest.warns(UserWarning, match=r"1 of 3 texts are longer than the model reads.* \(row 3\)"):
        totals = score_to_file(vae, rows(TEXTS), output, num_samples=3, seed=1, shard_rows=shard_rows)
    with pytest.warns(UserWarning, match="were cut"):
        expected, elbo = vae.nll(TEXTS, 3, seed=1), vae.elbo(TEXTS, seed=1)
    scores = READERS[suffix](output)
    assert list(scores.columns) == COLUMNS
    np.testing.assert_allclose(scores["nll"], expected, rtol=1e-6)
    np.testing.assert_allclose(scores["bound"], -elbo, rtol=1e-6)
    assert scores["tokens"].tolist() == [5, 1, 11]  # of twelve, all but the first
    assert (totals.texts, totals.tokens) == (3, 17) and totals.nll == pytest.approx(expected.sum())
    assert totals.bound == pytest.approx(-elbo.sum())
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.filterwarnings("ignore:.*longer than")
def test_what_makes_a_row_odd_is_told_beside_it(vae, tmp_path):
    vae.tokenizer.model_max_length = 14
    texts = [*KNOWN, "xqzv staff", "", "the room " * 9, "the xqzv " * 9]
    totals = score_to_file(vae, rows(texts, cut=[True] + [False] * 6), tmp_path / "a.csv", 3, shard_rows=2)
    scores = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert list(scores["unknown"]) == [0, 0, 0, 1, 0, 0, 6]
    told = ["cut", "", "", "1 of 2 words unknown", "empty", "cut", "6 of 12 words unknown; cut"]
    assert list(scores["warning"]) == told
    assert totals.marked == {"cut": (3, [1, 6, 7]), "unknown": (2, [4, 7]), "empty": (1, [5])}
    assert [told.partition(":")[0] for told in totals.warnings()] == [
        "3 of 7 texts are longer than the model reads", "2 of 7 texts have unknown words", "1 of 7 texts have no words",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*longer than")
def test_bits_per_byte_are_of_the_text_that_was_read_and_missing_where_that_is_not_its_likelihood(vae, tmp_path):
    vae.tokenizer.model_max_length = 14
    texts = [*KNOWN, "The  STAFF were friendly.", "xqzv staff", "", "the room " * 9]
    scores = scored(vae, texts, tmp_path / "a.parquet", 3)
    read = [text.encode() for text in (*texts[:4], ("the room " * 6).strip())]
    for row, text in zip((0, 1, 2, 3, 6), read, strict=True):
        assert scores["bits_per_byte"][row] == pytest.approx(bits_per_byte(scores["nll"][row], len(text)))
    assert list(np.flatnonzero(scores["bits_per_byte"].isna())) == [4, 5]


def test_without_importance_samples_there_is_the_bound_alone(vae, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "nll_of", None)
    scores = scored(vae, KNOWN, tmp_path / "a.csv", seed=2, quick=True)
    assert list(scores.columns) == COLUMNS[1:]
    np.testing.assert_allclose(scores["bound"], -vae.elbo(KNOWN, seed=2), rtol=1e-6)
    expected = [bits_per_byte(bound, len(text)) for bound, text in zip(scores["bound"], KNOWN, strict=True)]
    np.testing.assert_allclose(scores["bits_per_byte"], expected)


def test_totals_are_what_evaluate_finds_with_the_same_draws(vae, tmp_path, monkeypatch):
    texts = KNOWN * 3
    ids = vae.tokenizer(texts)["input_ids"]
    monkeypatch.setattr(evaluate, "sentence_generator", lambda seed, number: sentence_generator(seed, *ids[number]))
    evaluator = Evaluator(vae.model, tokenise(rows(texts), vae.tokenizer), seed=4, progress=False)
    figures = evaluate.evaluate(evaluator, num_samples=7)
    totals = score_to_file(vae, rows(texts), tmp_path / "a.csv", 7, seed=4)
    assert totals.nll / totals.texts == pytest.approx(figures["nll"], rel=1e-6)
    assert totals.bound / totals.texts == pytest.approx(figures["bound"], rel=1e-6)
    assert totals.perplexity == pytest.approx(figures["ppl"], rel=1e-6) and totals.tokens == figures["tokens"]


def test_without_a_latent_all_estimates_are_the_likelihood(make_model, vae, tmp_path):
    model = make_model(vocab_size=len(vae.tokenizer), latent_size=0)
    lm = SeqVAE(model, vae.tokenizer)
    scores = scored(lm, KNOWN, tmp_path / "a.csv", 500)
    np.testing.assert_allclose(scores["nll"], lm.nll(KNOWN), rtol=1e-6)
    np.testing.assert_allclose(scores["bound"], scores["nll"], rtol=1e-6)
    evaluator = Evaluator(model, tokenise(rows(KNOWN), vae.tokenizer), progress=False)
    assert scores["nll"].mean() == pytest.approx(evaluate.evaluate(evaluator)["nll"], rel=1e-6)


def test_neither_order_nor_batch_size_changes_a_score(vae, tmp_path):
    texts = [f"{text} {i % 5}" for i, text in enumerate(KNOWN * 6)]
    order = np.random.default_rng(0).permutation(len(texts))
    reference = rows(KNOWN)
    first = scored(vae, texts, tmp_path / "a.csv", 5, reference=reference)
    for size, shard_rows in ((1, 100), (4, 7)):
        shuffled = [texts[place] for place in order]
        other = scored(vae, shuffled, tmp_path / "b.csv", 5, 0, size, shard_rows=shard_rows, reference=reference)
        for name in ("nll", "bound", "tokens", "unknown", "quantile"):
            np.testing.assert_allclose(other[name], first[name][order], rtol=1e-5)


def test_quantiles_are_shares_of_the_reference(vae, tmp_path):
    reference = [*KNOWN, "the staff were slow .", "xqzv"]
    scores = scored(vae, [*KNOWN, "the cold staff ?"], tmp_path / "a.csv", 5, reference=rows(reference), shard_rows=2)
    nats = scores["nll"] / scores["tokens"]
    among = scored(vae, reference, tmp_path / "b.csv", 5)
    among = (among["nll"] / among["tokens"]).to_numpy()
    # the same text in another batch has another rounding
    expected = [((among < value * (1 - 1e-5)).sum() + (among < value * (1 + 1e-5)).sum()) / 10 for value in nats]
    np.testing.assert_allclose(scores["quantile"], expected)
    assert quantiles(np.array([1.0, 2.0, np.nan]), np.array([0.0, 1.0, 1.5, 2.0, 9.0, np.nan])).tolist()[:5] == [
        0, 0.25, 0.5, 0.75, 1,
    ]  # fmt: skip
    assert np.isnan(quantiles(np.empty(0), np.array([1.0]))).all()


def test_warnings_are_of_the_file_and_not_of_the_reference(vae, tmp_path, recwarn):
    score_to_file(vae, rows(KNOWN), tmp_path / "a.csv", 2, reference=rows(["xqzv xqzv", ""]))
    assert [str(told.message) for told in recwarn if told.category is UserWarning] == []


def test_of_a_reference_as_many_texts_as_are_needed_are_scored(vae, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "REFERENCE_TEXTS", 2)
    seen = []

    def spied(texts, *rest, **more):
        seen.extend(texts)
        return batches(texts, *rest, **more)

    monkeypatch.setattr(scoring, "batches_by_length", spied)
    scored(vae, ["a room"], tmp_path / "a.csv", 2, reference=rows(KNOWN))
    assert seen == [*KNOWN[:2], "a room"]


batches = scoring.batches_by_length


def test_no_more_than_a_shard_is_scored_at_a_time_and_an_interrupted_one_goes_on(vae, tmp_path, monkeypatch):
    texts, calls = [f"{text} ." for text in TEXTS * 4], []
    score_to_file(vae, rows(texts), tmp_path / "whole.csv", 3, shard_rows=5)

    def dying(given, *arguments, **options):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(given))
        return batches(given, *arguments, **options)

    monkeypatch.setattr(scoring, "batches_by_length", dying)
    with pytest.raises(KeyboardInterrupt):
        score_to_file(vae, rows(texts), tmp_path / "broken.csv", 3, shard_rows=5)
    assert calls == [5, 5] and not (tmp_path / "broken.csv").exists()
    calls.clear()
    for other in ({"num_samples": 4}, {"seed": 1}, {"quick": True}, {"reference": rows(KNOWN)}):
        with pytest.raises(ValueError, match=r"unfinished job with other (samples|seed|texts)"):
            score_to_file(vae, rows(texts), tmp_path / "broken.csv", **{"num_samples": 3, **other}, shard_rows=5)
    totals = score_to_file(vae, rows(texts), tmp_path / "broken.csv", 3, shard_rows=5)
    assert calls == [2] and totals.texts == 12
    assert (tmp_path / "broken.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_stopped_at_any_step_on_the_disk_it_goes_on_to_the_same_file(vae, tmp_path, monkeypatch):
    score = partial(score_to_file, vae, rows(KNOWN * 2, id=list(range(6))), num_samples=2, shard_rows=2, keep=["id"])
    score(output=tmp_path / "whole.csv", reference=rows(KNOWN))
    whole, steps, step = (tmp_path / "whole.csv").read_bytes(), 0, 0

    def stopping(act, *arguments, **options):
        nonlocal step
        step += 1
        if step == steps:
            raise KeyboardInterrupt
        return act(*arguments, **options)

    path = tmp_path / "a.csv"
    while True:
        steps, step = steps + 1, 0
        with monkeypatch.context() as patch:
            for module, name in ((shards, "save"), (os, "replace"), (shutil, "rmtree"), (Path, "unlink")):
                patch.setattr(module, name, partial(stopping, getattr(module, name)))
            patch.setattr(Path, "unlink", lambda self, unlink=Path.unlink, **options: unlink(self, **options))
            try:
                score(output=path, reference=rows(KNOWN))
            except KeyboardInterrupt:
                stopped = True
            else:
                stopped = False
        assert not path.exists() or path.read_bytes() == whole
        if not stopped:
            break
        score(output=path, reference=rows(KNOWN))
        assert path.read_bytes() == whole and {found.name for found in tmp_path.iterdir()} == {"a.csv", "whole.csv"}
        path.unlink()
    assert steps > 8


def test_shards_of_an_earlier_version_are_not_mixed_in(vae, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "write_table", lambda *unused: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_to_file(vae, rows(KNOWN), tmp_path / "a.csv", 2)
    manifest = tmp_path / "a.csv.parts" / shards.MANIFEST
    job = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({name: value for name, value in job.items() if name != "measured"}))
    with pytest.raises(ValueError, match="unfinished job with other measured"):
        score_to_file(vae, rows(KNOWN), tmp_path / "a.csv", 2)


@pytest.mark.parametrize("suffix", READERS)
def test_columns_of_the_rows_stand_before_the_scores(vae, tmp_path, suffix):
    texts = rows(KNOWN, id=["01", "02", "03"], stars=[5, None, 1])
    scores = scored(vae, texts, tmp_path / f"a{suffix}", 2, keep=["id", "text"])
    assert list(scores.columns) == ["id", "text", *COLUMNS] and list(scores["text"]) == KNOWN
    with pytest.raises(ValueError, match=r"a column 'nll', which is the name of a result"):
        score_to_file(vae, rows(KNOWN, nll=[1, 2, 3]), tmp_path / f"b{suffix}", 2, keep=["nll"])
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("reference", [None, KNOWN])
def test_no_texts_are_a_file_without_rows(vae, tmp_path, suffix, reference):
    among = rows(reference) if reference else None
    totals = score_to_file(vae, rows(TEXTS).select([]), tmp_path / f"nll{suffix}", 2, reference=among)
    assert totals == Totals() and math.isnan(totals.perplexity)
    assert len(READERS[suffix](tmp_path / f"nll{suffix}")) == 0


def test_perplexity_is_per_token_and_not_the_mean_of_texts():
    assert Totals(2, math.log(2) * 3 + math.log(8), 4).perplexity == pytest.approx(2 ** (6 / 4))


def test_a_full_disk_is_told_and_what_is_done_is_kept(vae, tmp_path, monkeypatch):
    def full(*unused, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing.pd.DataFrame, "to_csv", full)
        with pytest.raises(OSError, match=r"could not write .*nll.csv .*No space left"):
            score_to_file(vae, rows(TEXTS), tmp_path / "nll.csv", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["nll.csv.parts"]
    score_to_file(vae, rows(TEXTS), tmp_path / "nll.csv", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["nll.csv"]


def test_a_likelihood_that_is_no_number_is_an_error(vae, tmp_path):
    vae.model.lm_head.weight.data[:] = math.nan
    with pytest.raises(FloatingPointError, match=r"the likelihood of the text '.*' is not a finite number"):
        score_to_file(vae, rows(KNOWN), tmp_path / "a.csv", 2)


def test_a_long_time_is_told_first_and_what_is_faster(vae, tmp_path, monkeypatch):
    def seconds(timed, texts, samples):
        return 0.001 + 0.001 * (samples or 0)

    monkeypatch.setattr(scoring, "_seconds", seconds)
    told, texts = [], rows(KNOWN * 80)
    monkeypatch.setattr(scoring, "nll_of", lambda model, batch, *unused: batch.attention_mask.sum(1).double())
    score_to_file(vae, texts, tmp_path / "a.csv", tell=told.append)
    assert told == [
        "scoring 240 texts by 500 importance samples takes about 2 min. 12 s with --nll-samples 50, 1 s with --quick. "
        "If you stop it, the same command goes on."
    ]
    for few in ({"quick": True}, {"num_samples": 5}):
        score_to_file(vae, texts, tmp_path / "a.csv", tell=told.append, **few)
    score_to_file(vae, texts.select(range(20)), tmp_path / "a.csv", tell=told.append)
    assert len(told) == 1


def test_the_time_of_what_is_left_is_told(vae, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "_seconds", lambda timed, texts, samples: 1.0 + samples)
    monkeypatch.setattr(scoring, "nll_of", lambda model, batch, *unused: batch.attention_mask.sum(1).double())
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "write_table", lambda *unused: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_to_file(vae, rows(KNOWN * 8), tmp_path / "a.csv", shard_rows=10)
    os.remove(tmp_path / "a.csv.parts" / "000000000010.npy")
    told = []
    score_to_file(vae, rows(KNOWN * 8), tmp_path / "a.csv", shard_rows=10, tell=told.append)
    assert told[0].startswith("scoring 10 texts by 500 importance samples takes about 84 min.")
