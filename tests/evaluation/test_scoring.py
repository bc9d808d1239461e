"""A file of scores holds what `nll` gives, however it came about, and a perplexity is the one of docs/metrics.md."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from accelerate.state import AcceleratorState
from datasets import Dataset

from modeling_seqvae import SeqVAE
from modeling_seqvae.evaluation import scoring
from modeling_seqvae.evaluation.scoring import Totals, score_to_file

CHECKPOINT = Path(__file__).resolve().parents[2] / "model_cards" / "demo-max-pool"
TEXTS = ["the soup was warm", "", "the soup " * 20]
READERS = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".jsonl": lambda path: pd.read_json(path, lines=True)}


@pytest.fixture(autouse=True)
def _one_process():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def vae() -> SeqVAE:
    return SeqVAE.from_pretrained(CHECKPOINT)


def rows(texts):
    return Dataset.from_dict({"text": texts})


@pytest.mark.filterwarnings("ignore:.*not in the model's vocabulary")
@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("shard_rows", [2, 100])
def test_a_row_holds_what_is_predicted_of_its_text(vae, tmp_path, suffix, shard_rows):
    vae.tokenizer.model_max_length = 12
    output = tmp_path / f"nll{suffix}"
    with pytest.warns(UserWarning, match="were cut"):
        totals = score_to_file(vae, rows(TEXTS), output, num_samples=3, seed=1, shard_rows=shard_rows)
        expected = vae.nll(TEXTS, 3, seed=1)
    scores = READERS[suffix](output)
    assert list(scores.columns) == ["nll", "tokens"]
    np.testing.assert_allclose(scores["nll"], expected, rtol=1e-6)
    assert scores["tokens"].tolist() == [5, 1, 11]  # of twelve, all but the first
    assert (totals.texts, totals.tokens) == (3, 17) and totals.nll == pytest.approx(expected.sum())
    assert list(tmp_path.iterdir()) == [output]


def test_no_more_than_a_shard_is_scored_at_a_time_and_an_interrupted_one_goes_on(vae, tmp_path, monkeypatch):
    texts, calls, nll = [f"{text} ." for text in TEXTS * 4], [], vae.nll
    score_to_file(vae, rows(texts), tmp_path / "whole.csv", 3, shard_rows=5)

    def dying(given, *arguments):
        if len(given) and len(calls) == 2:
            raise KeyboardInterrupt
        calls.extend([len(given)] if len(given) else [])
        return nll(given, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(vae, "nll", dying)
        with pytest.raises(KeyboardInterrupt):
            score_to_file(vae, rows(texts), tmp_path / "broken.csv", 3, shard_rows=5)
        assert calls == [5, 5] and not (tmp_path / "broken.csv").exists()
        calls.clear()
        for other in ({"num_samples": 4}, {"seed": 1}):
            with pytest.raises(ValueError, match=r"unfinished job with other (samples|seed)"):
                score_to_file(vae, rows(texts), tmp_path / "broken.csv", **{"num_samples": 3, **other}, shard_rows=5)
        totals = score_to_file(vae, rows(texts), tmp_path / "broken.csv", 3, shard_rows=5)
    assert calls == [2] and totals.texts == 12
    assert (tmp_path / "broken.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("suffix", READERS)
def test_no_texts_are_a_file_without_rows(vae, tmp_path, suffix):
    totals = score_to_file(vae, rows(TEXTS).select([]), tmp_path / f"nll{suffix}")
    assert totals == Totals() and math.isnan(totals.perplexity)
    assert len(READERS[suffix](tmp_path / f"nll{suffix}")) == 0


def test_perplexity_is_per_token_and_not_the_mean_of_texts():
    assert Totals(2, math.log(2) * 3 + math.log(8), 4).perplexity == pytest.approx(2 ** (6 / 4))


def test_a_full_disk_is_told_and_what_is_done_is_kept(vae, tmp_path, monkeypatch):
    def full(*unused, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(scoring.pd.DataFrame, "to_csv", full)
        with pytest.raises(OSError, match=r"could not write .*nll.csv .*No space left"):
            score_to_file(vae, rows(TEXTS), tmp_path / "nll.csv", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["nll.csv.parts"]
    score_to_file(vae, rows(TEXTS), tmp_path / "nll.csv", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["nll.csv"]
