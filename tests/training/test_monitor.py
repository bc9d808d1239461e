"""Seconds by phase, and the peak of memory."""

import gzip
import json
import mmap
import os
import re
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import EventList, FunctionEvent
from typer.testing import CliRunner

from modeling_seqvae.cli import app
from modeling_seqvae.training import monitor
from modeling_seqvae.training.monitor import ACTIVE, PHASES, RANGES, WAIT, WARMUP, PhaseClock, peak_megabytes, summary

CPU = torch.device("cpu")


def test_every_second_belongs_to_the_phase_that_ends_with_it(monkeypatch):
    times = iter([0, 5, 7, 8, 12, 12.5])
    monkeypatch.setattr(monitor.time, "monotonic", lambda: next(times))
    seconds = dict.fromkeys(PHASES, 0.0)
    clock = PhaseClock(seconds)
    clock.start()
    assert [clock.end("train"), clock.end("save"), clock.end("train"), clock.end("evaluate")] == [2, 1, 4, 0.5]
    assert seconds == {"train": 6, "evaluate": 0.5, "save": 1}
    assert clock.take() == {"train": 6, "evaluate": 0.5, "save": 1}
    assert seconds == clock.take() == dict.fromkeys(PHASES, 0)


def in_child(action) -> str:
    """What `action` returns in a process of its own, whose memory has no history."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(action()).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return pipe.read()


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's high-water mark")
def test_the_peak_stays_when_the_memory_is_freed():
    def grow() -> float:
        before = peak_megabytes(CPU)
        with mmap.mmap(-1, 100 << 20) as memory:  # the system's own, not what an allocator has kept
            memory[:: mmap.PAGESIZE] = bytes(len(memory) // mmap.PAGESIZE)
        return peak_megabytes(CPU) - before

    assert 95 < float(in_child(grow)) < 130


def test_without_the_high_water_mark_the_system_is_asked(monkeypatch):
    class Nowhere:
        def __init__(self, path: str):
            pass

        def read_text(self, encoding: str) -> str:
            raise FileNotFoundError

    known = peak_megabytes(CPU)
    monkeypatch.setattr(monitor, "Path", Nowhere)
    assert peak_megabytes(CPU) > 0.5 * known


def test_on_a_gpu_it_is_the_gpu_s(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: {1: 3 << 20}[device.index])
    assert peak_megabytes(torch.device("cuda:1")) == 3


LONG_ENOUGH = "training.batch_size=4"  # 15 updates an epoch


@pytest.fixture(scope="module")
def plain(make_trainer, tmp_path_factory):
    run = tmp_path_factory.mktemp("plain") / "run"
    make_trainer(run, LONG_ENOUGH).train()
    return run


@pytest.fixture(scope="module")
def traced(make_trainer, tmp_path_factory):
    run = tmp_path_factory.mktemp("traced") / "run"
    make_trainer(run, LONG_ENOUGH, profile=True).train()
    return run


def events_of(run):
    with gzip.open(run / "profile" / "trace.json.gz", "rt") as file:
        return json.load(file)["traceEvents"]


def test_it_changes_no_result(plain, traced, history_of):
    assert history_of(traced) == history_of(plain)
    for weights in ("best/model.safetensors", "last/model.safetensors"):
        assert (traced / weights).read_bytes() == (plain / weights).read_bytes()
    assert not (plain / "profile").exists()


def test_the_trace_holds_the_updates_after_the_warm_up_and_their_parts(traced):
    names = [event["name"] for event in events_of(traced) if event.get("ph") == "X"]
    steps = {int(name.removeprefix("ProfilerStep#")) for name in names if name.startswith("ProfilerStep#")}
    assert steps == set(range(WAIT + WARMUP, WAIT + WARMUP + ACTIVE))
    for part in RANGES:
        assert names.count(part) >= ACTIVE, part
    assert any(name.startswith("aten::") for name in names)


def test_the_table_tells_shares_of_an_update(make_trainer, tmp_path, capfd):
    make_trainer(tmp_path, LONG_ENOUGH, profile=True, progress=True).train()
    out = capfd.readouterr().out
    assert re.search(rf"^{ACTIVE} updates of \d+\.\d ms; of one:$", out, re.MULTILINE)
    assert f"{tmp_path / 'profile' / 'trace.json.gz'} is the whole trace" in out
    rows = re.findall(r"^ +(\d+\.\d)% +(\d+\.\d\d) +(\d+)  (.+)$", out, re.MULTILINE)
    parts = {name: float(share) for share, _, _, name in rows if name in RANGES}
    assert list(parts) == list(RANGES)
    assert 30 < sum(parts.values()) <= 100.5
    operations = [float(share) for share, _, _, name in rows if name not in RANGES]
    assert len(operations) == 12 and operations == sorted(operations, reverse=True)


def test_a_gpus_kernels_count_once_and_updates_too():
    """What kineto gives of two updates: ranges and kernels are there for the host and for the GPU."""
    numbers, events = count(1), EventList([], use_device="cuda")

    def event(name: str, start: int, end: int, device: DeviceType = DeviceType.CPU, marked: bool = False) -> Any:
        options = {"use_device": "cuda", "device_type": device, "is_user_annotation": marked, "stack": []}
        events.append(FunctionEvent(next(numbers), name, 1, start, end, **options))
        return events[-1]

    for start in (0, 1000):
        event(f"ProfilerStep#{start // 1000}", start, start + 900)
        event("forward", start + 100, start + 700)
        for place, operation, kernel in ((200, "aten::mm", 300), (400, "aten::add", 100)):
            event(operation, start + place, start + place + 50).append_kernel(f"kernel of {operation}", 0, kernel)
            event(f"kernel of {operation}", start + place, start + place + kernel, DeviceType.CUDA)
        for name in (f"ProfilerStep#{start // 1000}", "forward"):
            event(name, start + 200, start + 700, DeviceType.CUDA, True)
    events._build_tree()
    told = summary(SimpleNamespace(key_averages=events.key_averages), torch.device("cuda")).splitlines()
    assert told[0] == "2 updates of 0.9 ms; of one:"
    rows = {line.split("  ")[-1]: line.split()[:3] for line in told[1:]}
    assert rows["forward"] == ["66.7%", "0.60", "1"]
    assert rows["aten::mm"] == ["75.0%", "0.30", "1"] and rows["aten::add"] == ["25.0%", "0.10", "1"]
    assert "kernel of aten::mm" not in rows


def test_a_run_too_short_for_it_says_so(make_trainer, tmp_path, capfd):
    make_trainer(tmp_path, "training.batch_size=57", profile=True, progress=True).train()
    assert f"--profile has recorded nothing: it begins after {WAIT + WARMUP} updates" in capfd.readouterr().out
    assert not (tmp_path / "profile").exists()


def test_a_run_that_ends_while_it_records_leaves_what_there_is(make_trainer, tmp_path):
    make_trainer(tmp_path, "training.epochs=1", profile=True).train()  # 8 updates
    steps = [event["name"] for event in events_of(tmp_path) if event["name"].startswith("ProfilerStep#")]
    assert "ProfilerStep#7" in steps and f"ProfilerStep#{WAIT + WARMUP + ACTIVE - 1}" not in steps


def test_the_command_takes_the_option(tiny, tmp_path):
    options = ["--corpus", str(tiny / "corpus.yaml"), "--training", str(tiny / "preset.yaml"), "--set", LONG_ENOUGH]
    arguments = ["train", *options, "--set", "training.epochs=1", "--output-dir", str(tmp_path / "run"), "--profile"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    assert "operation on the CPU" in result.stdout
    assert (tmp_path / "run" / "profile" / "trace.json.gz").exists()
