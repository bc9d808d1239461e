import json

import numpy as np
import pytest

from modeling_seqvae.reproduce.rows import Report, Spread, Table, spread

COLUMNS = {"title": ("model", "{}"), "nll": ("NLL", "{:.2f}"), "au": ("AU", "{:d}"), "gap": ("gap", "{:+.1f}")}


def test_several_seeds_are_shown_as_mean_and_sample_deviation():
    values = [105.25, 106.5, 104.0, 107.125]
    found = spread(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.deviation == pytest.approx(np.std(values, ddof=1))
    assert f"{found:.2f}" == f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
    assert found.as_dict() == {"mean": found.mean, "values": values, "sd": found.deviation}


def test_one_seed_has_no_deviation_and_none_no_figure():
    assert f"{spread([105.25]):.2f}" == "105.25"
    assert f"{spread([3]):d}" == "3"
    assert spread([105.25]).as_dict() == {"mean": 105.25, "values": [105.25]}
    assert spread([]) is None and spread([None, None]) is None
    assert spread([None, 2.0]).values == (2.0,)


def test_counts_of_several_seeds_are_no_integers_and_a_deviation_has_no_sign():
    assert f"{spread([3, 4]):d}" == "3.5 ± 0.7"
    assert f"{spread([1.0, 3.0]):+.1f}" == "+2.0 ± 1.4"
    assert f"{spread([600_000, 616_000]):,.0f}" == "608,000 ± 11,314"


def test_one_row_is_the_same_figures_on_screen_in_markdown_and_in_json():
    rows = [{"title": "SeqVAE", "nll": spread([105.25, 106.5]), "au": spread([1, 1]), "more": 7}, {"title": "none"}]
    report = Report([Table("A caption.", COLUMNS, rows)], ["A note."])
    for shown in (report.text(), report.markdown()):
        assert "105.88 ± 0.88" in shown and "1.0 ± 0.0" in shown and "A caption." in shown and "A note." in shown
        assert "gap" not in shown and "–" in shown  # no row has the column; one row lacks the figures
    (found,) = json.loads(json.dumps(report.as_dict()))["tables"]
    assert found["rows"][0]["nll"]["values"] == [105.25, 106.5] and found["rows"][0]["more"] == 7
    assert found["rows"][1] == {"title": "none"}
    assert isinstance(rows[0]["nll"], Spread)
