"""Costs: ratios within rounds, and the table of them."""

import json

import costs
import pytest
import report as report_page
import torch
from turns import Turns

from modeling_seqvae.training.recipe import resolve


def test_a_ratio_is_of_the_two_within_a_round():
    """The machine is three times as slow in the last round, for both."""
    found = costs.ratios([2.0, 4.0, 9.0], [1.0, 1.0, 3.0])
    assert found == {"median": 3.0, "lowest": 2.0, "highest": 4.0}


def test_the_table_has_a_row_for_each_system_and_the_seconds_of_the_first():
    recipes = {method: resolve(method, "demo") for method in ("seqvae", "vmf")}
    found = Turns(
        {"seqvae": (10, 1000), "vmf": (10, 1000)},
        {"seqvae": [0.001, 0.002], "vmf": [0.002, 0.003]},
        {"seqvae": [1.0], "vmf": [1.5]},
    )
    report = {
        "machine": {"processor": "abacus", "threads": 1, "torch": "2"},
        "corpus": "demo", "batch_size": 32, "rounds": 2, "updates": 3, "validation": 20,
        "seconds": {"update": 0.15, "evaluation": 1.0}, "rows": costs.rows(recipes, found),
    }  # fmt: skip
    told = report_page.costs(report)
    assert "takes 150 ms an update and 1.00 s an evaluation" in told
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in told.splitlines() if "SeqVAE |" in line]
    assert lines == [["SeqVAE", "1.00 (1.00 to 1.00)", "1.00 (1.00 to 1.00)"]]
    (vmf,) = (each for each in report["rows"] if each["method"] == "vmf")
    assert vmf["update"]["median"] == pytest.approx(1.75) and "1.75 (1.50 to 2.00)" in told


def test_the_report_tells_the_threads_that_were_asked_for(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    asked = ["costs.py", "--methods", "vmf", "--threads", str(threads + 1), "--output", str(tmp_path / "costs.json")]
    monkeypatch.setattr("sys.argv", asked)
    epochs, seconds = dict.fromkeys(("seqvae", "vmf"), (10, 1000)), {"seqvae": [1.0], "vmf": [1.5]}
    monkeypatch.setattr(costs, "take_turns", lambda *_: Turns(epochs, seconds, seconds))
    try:
        costs._main()
    finally:
        torch.set_num_threads(threads)
    assert json.loads((tmp_path / "costs.json").read_text("utf-8"))["machine"]["threads"] == threads + 1
