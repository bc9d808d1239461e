from typing import Any

import pytest

from modeling_seqvae.evaluation.table import COLUMNS, caption, cells, markdown, precision_note, table

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
    assert "NLL exact" in caption(LANGUAGE_MODEL)
    single = caption(REPORT | {"nll_sentences": 1, "nll_gap_se": None})
    assert "on the first sentence: -ELBO of all less the gap there." in single


def test_captions_tell_what_was_measured_in_bf16_and_older_reports_are_in_float32():
    half, full = REPORT | {"precision": "bf16"}, LANGUAGE_MODEL | {"precision": "no"}
    assert "bf16" not in caption(REPORT) + caption(full) and "Measured in bf16." in caption(half)
    assert precision_note([REPORT, full]) == ""
    assert precision_note([half, half]) == " Measured in bf16."
    assert precision_note([half, full, REPORT]).endswith("SeqVAE + MaxPool (bf16); the others in float32.")


@pytest.mark.parametrize("key", ["mi", "mi_corpus", "cosine"])
def test_an_estimate_of_nothing_is_zero_without_a_sign(key):
    assert COLUMNS[key][1].format(-1e-6) == "0.00"
