"""A look into a few updates of a run: where their time goes, as a trace and as a short table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule
from tqdm import tqdm

from ..data.files import writing

WAIT, WARMUP, ACTIVE = 5, 2, 5
"""Updates that pass first, that the profiler warms up in, and that it records."""
RANGES = ("wait for a batch", "forward", "backward", "clip and step")
"""The parts of an update, as the loader and the training scheme name them."""
ROWS = 12
HEADER = f"{'share':>7} {'ms':>9} {'calls':>7}  "


@contextmanager
def profiled(directory: Path | None, device: torch.device, show: bool) -> Iterator[Callable[[], None]]:
    """Gives a function to call after each update, which records some of them; without a directory it does nothing.

    After `WAIT + WARMUP` updates the next `ACTIVE` ones are recorded, into a trace for Perfetto (or chrome://tracing)
    in `directory` and, with `show`, a printed table. Changes no result. Raises OSError where the trace cannot be
    written.
    """
    if directory is None:
        yield lambda: None
        return
    recorded: list[str] = []
    with profile(
        activities=[ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else []),
        schedule=schedule(wait=WAIT, warmup=WARMUP, active=ACTIVE, repeat=1),
        on_trace_ready=lambda profiler: recorded.append(_report(profiler, directory, device, show)),
    ) as profiler:
        yield profiler.step
    if show and not recorded:
        tqdm.write(f"--profile has recorded nothing: it begins after {WAIT + WARMUP} updates")


def _report(profiler: profile, directory: Path, device: torch.device, show: bool) -> str:
    trace = directory / "trace.json.gz"
    with writing(trace):
        directory.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(trace))
    table = f"{summary(profiler, device)}\n{trace} is the whole trace: open it at https://ui.perfetto.dev"
    if show:
        tqdm.write(table)
    return table


def summary(profiler: profile, device: torch.device) -> str:
    """Where the recorded updates' time went: parts of an update by the clock, operations by the time of their own."""
    events = profiler.key_averages()
    steps = [event for event in events if event.key.startswith("ProfilerStep")]
    parts = {event.key: event for event in events if event.key in RANGES}
    operations = [event for event in events if event.key not in RANGES and event not in steps]
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    longest = sorted(operations, key=lambda event: getattr(event, own), reverse=True)[:ROWS]
    updates = sum(event.count for event in steps)
    elapsed = sum(event.cpu_time_total for event in steps)
    whole = sum(getattr(event, own) for event in operations)

    def row(name: str, microseconds: float, of: float, calls: int) -> str:
        return (
            f"{microseconds / max(of, 1):>7.1%} {microseconds / 1000 / updates:>9.2f} {calls / updates:>7.0f}  {name}"
        )

    lines = [f"{updates} updates of {elapsed / 1000 / updates:.1f} ms; of one:", HEADER + "part"]
    lines += [row(name, parts[name].cpu_time_total, elapsed, parts[name].count) for name in RANGES if name in parts]
    lines += [HEADER + f"operation on the {'GPU' if device.type == 'cuda' else 'CPU'}, without those it calls"]
    lines += [row(event.key, getattr(event, own), whole, event.count) for event in longest]
    return "\n".join(lines)
