"""Time to quality: histories against costs, the table and the picture, and two tiny recipes that train in turn."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import report as report_page
import time_to_quality
from time_to_quality import Cost, Run, compare, draw, recipe_of, require_comparable
from turns import measure

from modeling_seqvae.training.recipe import Recipe, resolve

TINY = ["model.embedding_size=6", "model.hidden_size=8", "model.latent_size=3", "training.batch_size=8"]


def recipe(*overrides: str, corpus: str = "demo") -> Recipe:
    return resolve("max_pool", corpus, "small", [*TINY, *overrides])


def history(*bounds: float, updates: int = 10, kl: float = 1.0, au: int = 4) -> list[dict[str, Any]]:
    return [
        {"epoch": n, "decoder_updates": n * updates, "bound": bound, "kl": kl, "au": au, "seconds": 1e6 * n}
        for n, bound in enumerate(bounds, start=1)
    ]


PAPER = Run(recipe(), history(5.0, 3.0, 2.0, 2.1))
FAST = [
    Run(recipe("training.seed=1"), history(2.5, 2.04, 1.9, updates=20, kl=0.9)),
    Run(recipe("training.seed=2"), history(2.5, 2.06, 2.2, updates=20, au=3)),
]
COSTS = {"paper": Cost(update=2.0, evaluation=5.0), "fast": Cost(update=0.5, evaluation=4.0)}
MEASURED = {
    "rounds": 2, "updates": 3, "ratio": 0.25, "ratios": [0.2, 0.3],
    "costs": {side: {"update": cost.update, "evaluation": cost.evaluation} for side, cost in COSTS.items()},
}  # fmt: skip


@pytest.fixture
def compared() -> dict[str, Any]:
    return compare({"paper": [PAPER], "fast": FAST}, COSTS) | {
        "measured": MEASURED,
        "machine": {"processor": "abacus", "threads": 2, "torch": "2"},
        "corpus": "demo",
        "title": "SeqVAE + MaxPool",
        "model": PAPER.recipe.model,
        "titles": {"paper": "the paper's recipe", "fast": "the fast recipe"},
    }


def test_seconds_are_those_of_updates_and_evaluations_up_to_the_first_epoch_within_the_band(compared):
    assert compared["paper"]["seconds"] == 30 * 2.0 + 3 * 5.0  # its best is the third epoch
    first, second = compared["fast"]
    assert first["reached"] == {"seconds": 40 * 0.5 + 2 * 4.0, "epoch": 2, "bound": 2.04, "kl": 0.9, "au": 4}
    assert first["best"]["epoch"] == 3
    assert second["reached"] is None and second["best"]["bound"] == 2.06


def test_of_several_seeds_of_the_paper_the_target_is_the_mean(compared):
    other = Run(recipe("training.seed=3"), history(4.0, 1.0))
    target = compare({"paper": [PAPER, other], "fast": FAST}, COSTS)["paper"]
    assert target["bound"] == 1.5 and target["seconds"] == (75 + 50) / 2
    assert [run["seed"] for run in target["runs"]] == [0, 3]


def test_a_run_that_was_continued_counts_the_evaluations_it_had():
    run = Run(recipe(), history(3.0, 2.0, updates=7)[1:])
    assert Cost(1.0, 100.0).course(run)[0]["seconds"] == 14 + 100


def test_runs_of_a_side_differ_in_their_seed_only_and_sides_in_their_schedule_only():
    assert recipe_of(FAST, "fast") == FAST[0].recipe
    with pytest.raises(ValueError, match="--fast are of different recipes"):
        recipe_of([FAST[0], Run(recipe("training.epochs=3"), [])], "fast")
    require_comparable(recipe(), recipe("training.optimizer=adam", "training.batch_size=4"))
    with pytest.raises(ValueError, match="differ in model"):
        require_comparable(recipe(), recipe("model.hidden_size=9"))


def test_the_table_has_each_seed_when_it_was_as_good_and_at_its_best(compared):
    told, _, *lines = report_page.time_to_quality(compared).splitlines()
    assert "1 of 2 seeds, in 37% of its time; with at least 90% of its KL and active units: 1." in told
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert rows[0] == ["paper", "its best", "0", "3", "1", "100%", "2.00", "1.000", "4"]
    assert rows[1] == ["fast", "within 0.05 nats", "1", "2", "0", "37%", "2.04", "0.900", "4"]
    assert rows[3] == ["fast", "within 0.05 nats", "2", "never", *["–"] * 5]
    assert rows[4][3:] == ["2", "0", "37%", "2.06", "1.000", "3"]


def test_the_picture_shows_every_run_and_the_band(tmp_path, compared, monkeypatch):
    made, figure = [], time_to_quality.require_matplotlib()
    monkeypatch.setattr(
        time_to_quality, "require_matplotlib", lambda: lambda **options: made.append(figure(**options)) or made[-1]
    )
    draw(compared, tmp_path / "below" / "figure.png")
    assert (tmp_path / "below" / "figure.png").read_bytes().startswith(b"\x89PNG")
    whole, end = made[0].axes
    assert [list(line.get_ydata()) for line in whole.lines[:3]] == [
        [point["bound"] for point in course] for side in ("paper", "fast") for course in compared["courses"][side]
    ]
    low, high = end.get_ylim()
    assert low < 1.9 and 2.05 < high < 5.0


def test_a_history_that_is_empty_is_told(tmp_path):
    (tmp_path / "history.jsonl").touch()
    with pytest.raises(ValueError, match="ended its first epoch"):
        Run.read(tmp_path)


def test_two_recipes_train_in_turn_on_the_same_words(tmp_path: Path):
    """Real processes; a turn of more updates than an epoch has, so that epochs follow each other."""
    source = random.Random(0)
    for split, size in {"train": 20, "validation": 6, "test": 6}.items():
        lines = [" ".join(source.choices(["the", "food", "was", "good", "bad"], k=5)) for _ in range(size)]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
    files = ", ".join(f"{split}: {split}.txt" for split in ("train", "validation", "test"))
    (tmp_path / "corpus.yaml").write_text(f"data: {{name: tiny, files: {{{files}}}}}\n")
    overrides = {"paper": ("training.seed=1",), "fast": ("training.optimizer=adam", "training.precision=bf16")}
    recipes = {side: recipe(*given, corpus=str(tmp_path / "corpus.yaml")) for side, given in overrides.items()}
    measured = measure(recipes, tmp_path, threads=1, rounds=2, updates=4, evaluations=1)
    assert json.loads(json.dumps(measured)) == measured
    low, high = measured["ratios"]
    assert 0 < low <= measured["ratio"] <= high
    for cost in measured["costs"].values():
        assert cost["updates_an_epoch"] == 3 and cost["update"] > 0 and cost["evaluation"] > 0
    paper, fast = (measured["costs"][side] for side in ("paper", "fast"))
    assert fast["update"] == pytest.approx(paper["update"] * measured["ratio"])
    assert paper["update"] * paper["words_per_second"] == pytest.approx(20 * 6 / 3)  # </s> is predicted as well
