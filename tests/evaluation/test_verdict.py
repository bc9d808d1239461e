import numpy as np

from modeling_seqvae.configuration_seqvae import COLLAPSED_BELOW
from modeling_seqvae.evaluation.verdict import collapsed, compare, latent_verdict


def report(kl: float, au: int | None = 0) -> dict[str, float | None]:
    return {"kl": kl, "mi": None, "au": au}


def test_collapse_is_a_kl_below_the_threshold():
    assert collapsed(report(0.0)) and collapsed(report(COLLAPSED_BELOW - 1e-6))
    assert not collapsed(report(COLLAPSED_BELOW)) and not collapsed(report(5.0))


def test_a_language_model_has_nothing_to_collapse():
    assert not collapsed(report(0.0, au=None))


def test_what_the_latent_holds_is_told_with_what_to_do_if_that_is_nothing():
    assert latent_verdict({"kl": 4.134, "au": 14}, 32) == "the latent holds 4.13 nats a text, in 14 of 32 units"
    collapse = latent_verdict({"kl": -0.001, "au": 0}, 32)
    assert collapse.startswith("the posterior has collapsed: the latent holds 0.00 nats") and "--method" in collapse
    assert latent_verdict({"kl": 0.0, "au": None}, 0) == ""


def test_who_is_lower_is_told_whichever_comes_first():
    expected = "pooled has a lower NLL than plain by 5.50 ± 0.14 nats per sentence"
    assert compare("pooled", 20.0, "plain", 25.5, 0.1) == compare("plain", 25.5, "pooled", 20.0, 0.1) == expected


def test_a_difference_that_seeds_make_is_none():
    """Of two models whose NLLs vary by 0.1 each, the difference varies by 0.14."""
    assert compare("a", 20.28, "b", 20.0, 0.1).startswith("no difference in NLL between a and b beyond that of seeds")
    assert compare("a", 20.29, "b", 20.0, 0.1).startswith("b has a lower NLL than a by 0.29 ± 0.14")
    rounds = np.random.default_rng(0).normal(20, 0.1, (2000, 2))  # two models that are equal but for their seeds
    assert 0.03 < np.mean(["no difference" not in compare("a", x, "b", y, 0.1) for x, y in rounds]) < 0.06


def test_the_same_figures_are_no_difference():
    assert compare("a", 3.0, "b", 3.0, 0.0).endswith("(+0.00 ± 0.00 nats)")
