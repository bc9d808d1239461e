from pathlib import Path

import pytest

from modeling_seqvae.reproduce import progress
from modeling_seqvae.reproduce.progress import Bars
from modeling_seqvae.reproduce.steps import Measurement, Step


def a_step(name: str) -> Step:
    return Measurement(name, Path(name), "figures.json", dict)


@pytest.fixture
def clock(monkeypatch):
    """The time that bars see: a list of one number of seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def bars_of(folder: Path, expected: dict[str, float], jobs: int = 1) -> tuple[Bars, list[Step]]:
    steps = [a_step(name) for name in expected]
    return Bars(steps, {step.key: expected[step.title] for step in steps}, folder, jobs), steps


def test_steps_share_the_processes_and_none_is_faster_than_itself(tmp_path, clock):
    bars, _ = bars_of(tmp_path, {"a": 100, "b": 100, "c": 40}, jobs=2)
    assert bars.seconds_left() == 120
    bars, steps = bars_of(tmp_path, {"a": 500, "b": 10}, jobs=2)
    bars.begin(steps[0])
    clock[0] = 50
    assert bars.seconds_left() == 450


def test_what_steps_took_corrects_what_the_rest_is_expected_to_take(tmp_path, clock):
    bars, steps = bars_of(tmp_path, {str(number): 100 for number in range(10)})
    for step in steps[:8]:
        bars.begin(step)
        clock[0] += 300
        bars.end(step, None)
    assert bars.seconds_left() == pytest.approx(2 * 300, rel=0.1)


def test_a_short_step_says_little_of_long_ones(tmp_path, clock):
    bars, steps = bars_of(tmp_path, {"short": 0.5, **{str(number): 160 for number in range(13)}})
    bars.begin(steps[0])
    clock[0] = 4  # of which most is the start of a process
    bars.end(steps[0], None)
    assert bars.seconds_left() == pytest.approx(13 * 160, rel=0.05)


def test_a_failed_step_corrects_nothing(tmp_path, clock):
    bars, steps = bars_of(tmp_path, {"a": 100, "b": 100})
    bars.begin(steps[0])
    clock[0] = 1
    bars.end(steps[0], "it failed")
    assert bars.seconds_left() == 100
