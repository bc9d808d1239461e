"""A file of scores holds what `nll` gives, and a perplexity is the one of docs/metrics.md."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modeling_seqvae import SeqVAE
from modeling_seqvae.evaluation.scoring import perplexity, score_texts, write_scores

CHECKPOINT = Path(__file__).resolve().parents[2] / "model_cards" / "demo-max-pool"
TEXTS = ["the soup was warm", "", "the soup " * 20]


def test_a_row_holds_what_is_predicted_of_its_text():
    vae = SeqVAE.from_pretrained(CHECKPOINT)
    vae.tokenizer.model_max_length = 12
    with pytest.warns(UserWarning, match="were cut"):
        scores = score_texts(vae, TEXTS, num_samples=3, seed=1)
        np.testing.assert_array_equal(scores["nll"], vae.nll(TEXTS, 3, seed=1))
    assert scores["tokens"].tolist() == [5, 1, 11]  # of twelve, all but the first


def test_perplexity_is_per_token_and_not_the_mean_of_texts():
    scores = pd.DataFrame({"nll": [math.log(2) * 3, math.log(8)], "tokens": [3, 1]})
    assert perplexity(scores) == pytest.approx(2 ** (6 / 4))
    assert math.isnan(perplexity(scores[:0]))


def test_a_file_appears_whole_or_not(tmp_path, monkeypatch):
    def full(*unused, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(OSError, match="No space left"):
        write_scores(pd.DataFrame({"nll": [1.0], "tokens": [2]}), str(tmp_path / "nll.csv"))
    assert list(tmp_path.iterdir()) == []
