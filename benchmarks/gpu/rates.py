"""Speed and memory at the paper's size on a GPU, and where a training step and an `iw_nll` call wait for it."""

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from measuring import Machine, seconds
from throughput import Bench, Size, measure
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm
from waits import Waits

from modeling_seqvae.training.monitor import events_of
from modeling_seqvae.training.recipe import named_settings

from .driver import Settings
from .findings import Findings

ROWS = 25
"""Operations of a profile that are kept."""
SYNCHRONISES = "called a synchronizing"
"""What torch warns of at each wait; another warning tells once that this way to see them is a prototype."""


def main(settings: Settings, output_dir: Path, seconds: float) -> None:
    """Records like those of benchmarks/throughput.py, written one by one, then the profiles."""
    device = torch.device(settings.device)
    sizes = [size_of(settings, sentences) for sentences in settings.sentences]
    precisions = ["bfloat16", "tf32"] if device.type == "cuda" else ["bfloat16"]
    found = Findings(
        output_dir / "throughput.json", machine=asdict(Machine.of(device)), size=asdict(sizes[0]), records=[]
    )
    found.attempt("profile", lambda: profiles(Bench(sizes[0], device, "bfloat16")))
    repeats = 5 if device.type == "cuda" else 1
    for size in sizes:
        for precision in precisions:
            try:
                bench = Bench(size, device, precision)
                for record in measure(bench, bench.works(), repeats, tqdm(disable=True)):
                    found["records"] = [*found["records"], record]
            except torch.OutOfMemoryError as error:
                found["errors"] = {**found.get("errors", {}), f"{precision} {size.sentences}": str(error)}
            if device.type == "cuda":
                torch.cuda.empty_cache()


def size_of(settings: Settings, sentences: int) -> Size:
    """The shapes of the preset's model, and of the paper's vocabulary and texts; of a small model, small ones."""
    model = named_settings("training", settings.size)[0]["model"]
    sizes = {name.removesuffix("_size"): model[name] for name in ("embedding_size", "hidden_size", "latent_size")}
    small = {} if sizes["hidden"] > 64 else {"vocabulary": 200, "tokens": 12, "samples": 6, "matrix": 128}
    return Size(sentences, **sizes, **small)


def profiles(bench: Bench) -> dict[str, Any]:
    """Of one training step and one `iw_nll` call: operations by their own time, and every wait with its place."""
    return {name: _profile(work, bench.device) for name, work in (("train", bench.train), ("iw_nll", bench.iw_nll))}


def _profile(work: Callable[[], object], device: torch.device) -> dict[str, Any]:
    cuda = device.type == "cuda"
    for _ in range(3):  # allocations, and the choice of kernels
        work()
    elapsed = seconds(work, device)
    with profile(activities=[ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])) as profiler:
        traced = seconds(work, device)
    own = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = events_of(profiler)
    longest = sorted(events, key=lambda event: getattr(event, own), reverse=True)[:ROWS]
    return {
        "milliseconds": 1e3 * elapsed,
        "milliseconds_traced": 1e3 * traced,
        "device_milliseconds": sum(getattr(event, own) for event in events) / 1e3,
        "operations": [
            {"name": event.key, "milliseconds": getattr(event, own) / 1e3, "calls": event.count} for event in longest
        ],
        "synchronisations": {
            event.key: event.count
            for event in events
            if event.key in ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
        },
        "waits": waits_of(work, device),
    }


def waits_of(work: Callable[[], object], device: torch.device) -> dict[str, int]:
    """How often each line of the package waits for the device; on a GPU by CUDA's own account."""
    if device.type != "cuda":
        with Waits() as waits:
            work()
        return dict(waits.places)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [each for each in told if SYNCHRONISES in str(each.message)]
    return dict(Counter(f"{Path(each.filename).name}:{each.lineno}" for each in waits))
