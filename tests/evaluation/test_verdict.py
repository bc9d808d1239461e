import math

import numpy as np
import pytest

from modeling_seqvae.evaluation.verdict import COLLAPSED_BELOW, collapsed, compare, difference


def report(kl: float, au: int | None = 0) -> dict[str, float | None]:
    return {"kl": kl, "mi": None, "au": au}


def test_collapse_is_a_kl_below_the_threshold():
    assert collapsed(report(0.0)) and collapsed(report(COLLAPSED_BELOW - 1e-6))
    assert not collapsed(report(COLLAPSED_BELOW)) and not collapsed(report(5.0))


def test_a_language_model_has_nothing_to_collapse():
    assert not collapsed(report(0.0, au=None))


def test_difference_is_paired():
    """Sentences differ much more among each other than the models do on a sentence: the error is of the latter."""
    random = np.random.default_rng(0)
    bounds = random.normal(50, 20, 400)
    gap, error = difference(bounds + random.normal(0.5, 1, 400), bounds)
    assert gap == pytest.approx(0.5, abs=0.15) and error == pytest.approx(1 / math.sqrt(400), rel=0.1)


def test_who_is_lower_is_told_whichever_comes_first():
    random = np.random.default_rng(0)
    low, high = random.normal(20, 1, 100), random.normal(25.5, 1, 100)
    expected = "pooled has a lower -ELBO than plain by 5."
    assert compare("pooled", low, "plain", high).startswith(expected)
    assert compare("plain", high, "pooled", low).startswith(expected)


def test_a_difference_within_two_errors_is_none():
    noise = np.tile([1.0, -1.0], 200)  # standard error 0.05
    assert compare("a", 0.099 + noise, "b", np.zeros(400)).startswith("no difference in -ELBO between a and b")
    assert compare("a", 0.11 + noise, "b", np.zeros(400)).startswith("b has a lower -ELBO than a by 0.11 ± 0.05")


def test_the_same_figures_are_no_difference():
    same = np.array([3.0, 4.0, 5.0])
    assert compare("a", same, "b", same).endswith("(+0.00 ± 0.00 nats)")


def test_one_sentence_decides_nothing():
    assert compare("a", np.array([1.0]), "b", np.array([100.0])).startswith("no difference")
