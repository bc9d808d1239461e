"""Bars over everything that is to be done, and how long it will still take."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from .steps import Step

LINE_SECONDS = 60
"""In a log file a line a minute says how far it all is."""


@dataclass
class Running:
    """A step at work: when it began, how much of it was done then, and its bar."""

    step: Step
    before: float
    task: TaskID
    began: float

    def seconds_left(self, output_dir: Path, expected: float) -> float:
        """From its own pace once it has got somewhere; before, what is left of what was expected."""
        passed = time.monotonic() - self.began
        done = self.step.progress(output_dir)
        if done <= self.before:
            return max(0.0, expected - passed)
        return passed * (1 - done) / (done - self.before)


class Bars:
    """A bar for all steps and one for each that runs, on standard error; a line for each step that ends.

    `expected` are seconds by step key, estimates that are corrected by how long the first steps took.
    """

    def __init__(self, steps: Sequence[Step], expected: Mapping[str, float], output_dir: Path, jobs: int):
        self.expected = dict(expected)
        self.waiting = {step.key for step in steps}
        self.total, self.ended = len(steps), 0
        self.output_dir, self.jobs = output_dir, jobs
        self.running: dict[str, Running] = {}
        # As if one usual step had gone as expected: a first step of seconds tells little of what takes hours.
        self.took = self.was_expected = sum(self.expected.values()) / max(1, len(self.expected))
        self.began = self.told = time.monotonic()
        self.console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(24), TaskProgressColumn())
        self.bars = Progress(*columns, TextColumn("{task.fields[left]}"), console=self.console, transient=True)
        self.all = self.bars.add_task("", total=1.0, left="")

    def __enter__(self) -> "Bars":
        self.bars.start()
        return self

    def __exit__(self, *unused: Any) -> None:
        self.bars.stop()

    def begin(self, step: Step) -> None:
        self.waiting.discard(step.key)
        before = step.progress(self.output_dir)
        task = self.bars.add_task(step.title, total=1.0, left="")
        self.running[step.key] = Running(step, before, task, time.monotonic())

    def end(self, step: Step, failure: str | None) -> None:
        """Take a step's bar down and tell how it ended; one that never ran has a failure, too."""
        self.ended += 1
        self.waiting.discard(step.key)
        running = self.running.pop(step.key, None)
        passed = 0.0
        if running:
            self.bars.remove_task(running.task)
            passed = time.monotonic() - running.began
            if failure is None:
                self.took += passed
                self.was_expected += self.expected[step.key]
        told = f"failed: {first_line(failure)}" if failure else f"done in {clock(passed)}"
        self._tell(f"{step.title}: {told}")

    def stopping(self) -> None:
        """Tell that what runs is saving its state, which may take as long as an evaluation."""
        titles = ", ".join(running.step.title for running in self.running.values())
        if titles:
            self._tell(f"stopping as soon as these have saved their state: {titles}; the same command goes on")

    def show(self) -> None:
        """Move the bars; to be called every now and then."""
        left = self.seconds_left()
        for running in self.running.values():
            seconds = running.seconds_left(self.output_dir, self._expected(running.step.key))
            passed = time.monotonic() - running.began
            share = passed / (passed + seconds) if seconds else 0.99
            self.bars.update(running.task, completed=share, left=f"{clock(seconds)} left")
        passed = time.monotonic() - self.began
        done = f"{self.ended} of {self.total} steps"
        self.bars.update(self.all, description=done, completed=passed / (passed + left), left=f"{clock(left)} left")
        if time.monotonic() - self.told > LINE_SECONDS and not self.console.is_terminal:
            self._tell(f"at work on {', '.join(running.step.title for running in self.running.values())}")

    def seconds_left(self) -> float:
        """Until all is done, if the steps share the processes evenly."""
        running = [running.seconds_left(self.output_dir, self._expected(key)) for key, running in self.running.items()]
        work = sum(running) + sum(map(self._expected, self.waiting))
        return max([work / self.jobs, *running, 1.0])

    def _expected(self, key: str) -> float:
        """What a step should take, as the first ones went."""
        return self.expected[key] * (self.took / self.was_expected if self.was_expected else 1.0)

    def _tell(self, line: str) -> None:
        self.told = time.monotonic()
        self.console.print(f"[{self.ended}/{self.total}, {clock(self.seconds_left())} left] {line}")


def first_line(text: str) -> str:
    """The first line of a reason; the rest stands in a log."""
    return (text.strip().splitlines() or [""])[0]


def clock(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min`, `4 d 06 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24:02d} h"


def note(text: str) -> None:
    """Tell the user something that is no result."""
    print(text, file=sys.stderr)
