from typing import Any

import numpy as np
import pytest

from modeling_seqvae.configuration_seqvae import COLLAPSED_BELOW
from modeling_seqvae.evaluation.table import (
    COLUMNS,
    caption,
    cells,
    collapsed,
    compare,
    latent_verdict,
    markdown,
    precision_note,
    table,
)

REPORT: dict[str, Any] = {
    "title": "SeqVAE + MaxPool",
    "corpus": "ptb",
    "split": "test",
    "nll": 106.5,
    "nll_se": 1.239,
    "nll_gap": 0.5,
    "nll_gap_se": 0.0123,
    "nll_sentences": 1000,
    "nll_samples": 500,
    "bound": 107.004,
    "rec": 106.0,
    "kl": 1.0,
    "mi": -0.0000018,
    "mi_corpus": 0.91,
    "au": 3,
    "cosine": 0.37,
    "ppl": 128.123,
    "sentences": 3761,
    "unknown_share": 0.0476,
}
LANGUAGE_MODEL = REPORT | {"title": "LSTM-LM", "kl": 0.0, "mi": None, "mi_corpus": None, "au": None, "cosine": None}


def test_columns_keep_their_order_and_those_without_figures_are_left_out():
    headings, rows = cells([dict(reversed(REPORT.items()))])
    assert headings == ["model", "NLL", "s.e.", "-ELBO", "Rec", "KL", "MI", "MI\ncorpus", "AU", "cosine", "PPL"]
    assert rows == [
        ["SeqVAE + MaxPool", "106.50", "1.24", "107.00", "106.00", "1.00", "0.00", "0.91", "3", "0.37", "128.12"]
    ]


def test_a_figure_that_one_model_lacks_is_a_dash():
    _, (_, row) = cells([REPORT, LANGUAGE_MODEL])
    assert row[5:10] == ["0.00", "–", "–", "–", "–"]
    _, (first, second) = cells([REPORT, LANGUAGE_MODEL | {"seconds": 12.4}])
    assert (first[-1], second[-1]) == ("–", "12")


def test_a_terminal_of_80_columns_holds_the_table():
    for reports in ([REPORT], [REPORT, LANGUAGE_MODEL]):
        drawn = table(reports, caption(REPORT))
        assert max(map(len, drawn.splitlines())) <= 80
        assert drawn == "\n".join(line.rstrip() for line in drawn.splitlines())


def test_figures_stand_below_their_headings():
    lines = [line for line in table([REPORT, LANGUAGE_MODEL]).splitlines() if line]
    heading = next(line for line in lines if "NLL" in line)
    for word, figure in (("NLL", "106.50"), ("-ELBO", "107.00"), ("PPL", "128.12")):
        end = heading.index(word) + len(word)
        assert all(line[:end].endswith(figure) for line in lines[-2:])


@pytest.mark.parametrize("title", ["[bold]runs[/bold]/best", ":smile:", "a | b"])
def test_any_title_is_shown_as_it_is(title):
    assert title in table([REPORT | {"title": title}])


def test_a_long_title_is_folded_and_costs_no_figure():
    drawn = table([REPORT | {"title": "x" * 300}])
    assert drawn.count("x") == 300 and "106.50" in drawn and "128.12" in drawn


def test_markdown_is_a_table_whatever_the_title():
    lines = markdown([REPORT | {"title": "a | b"}, LANGUAGE_MODEL]).splitlines()
    assert lines[0].startswith("| model | NLL | s.e. |") and "| MI corpus |" in lines[0]
    assert set(lines[1].split()) == {"|", "---", "---:"}
    assert lines[2].startswith("| a \\| b | 106.50 |")
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_caption_says_on_what_and_in_which_unit():
    told = caption(REPORT)
    for part in ("ptb, test set, 3,761 sentences", "4.8% unknown", "500 importance samples", "first 1,000", "Nats"):
        assert part in told
    assert "first" not in caption(REPORT | {"nll_sentences": 3761})
    for unusual, words in (("shuffled", "the encoder reads their words shuffled"), ("seed", "seed 1")):
        assert words in caption(REPORT | {unusual: 1}) and words not in told
    assert "NLL exact" in caption(LANGUAGE_MODEL)
    single = caption(REPORT | {"nll_sentences": 1, "nll_gap_se": None})
    assert "on the first sentence: -ELBO of all minus the gap there." in single


def test_the_caption_of_a_limited_evaluation_claims_no_more_than_the_first_sentences():
    limited, file = {"limit": 3761}, {"file": "reviews.csv"}
    assert "ptb, all of the file is the test set, 3,761 sentences" in caption(REPORT | file)
    assert "ptb, the file is the test set, the first 3,761 sentences" in caption(REPORT | file | limited)
    assert "ptb, test set, the first 3,761 sentences" in caption(REPORT | limited)
    assert "ptb, test set, 3,761 sentences" in caption(REPORT | {"limit": 5000})  # more than there are


def test_captions_tell_what_was_measured_in_bf16_and_older_reports_are_in_float32():
    half, full = REPORT | {"precision": "bf16"}, LANGUAGE_MODEL | {"precision": "no"}
    assert "bf16" not in caption(REPORT) + caption(full) and "Measured in bf16." in caption(half)
    assert precision_note([REPORT, full]) == ""
    assert precision_note([half, half]) == " Measured in bf16."
    assert precision_note([half, full, REPORT]).endswith("SeqVAE + MaxPool (bf16); the others in float32.")


@pytest.mark.parametrize("key", ["mi", "mi_corpus", "cosine"])
def test_an_estimate_of_nothing_is_zero_without_a_sign(key):
    assert COLUMNS[key][1].format(-1e-6) == "0.00"


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
    without = latent_verdict({"kl": 2.46, "mi": None, "au": 0}, 4)
    assert "in 0 of 4 units: all texts have much the same posterior. Train again" in without


def test_a_kl_without_information_is_told():
    """Such as that of a posterior on the sphere, which is constant."""
    told = latent_verdict({"kl": 3.26, "mi": -0.004, "au": 0}, 4)
    assert told.startswith("the KL is 3.26 nats a text, but all texts have much the same posterior") and "0.00" in told
    assert "the latent holds 3.26" in latent_verdict({"kl": 3.26, "mi": 0.2, "au": 1}, 4)
    assert "the latent holds 3.26" in latent_verdict({"kl": 3.26, "mi": None, "au": 1}, 4)


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
