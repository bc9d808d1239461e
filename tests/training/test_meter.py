"""Seconds by phase, and the peak of memory."""

import os

import pytest
import torch

from modeling_seqvae.training import meter
from modeling_seqvae.training.meter import PHASES, PhaseClock, peak_megabytes

CPU = torch.device("cpu")


def test_every_second_belongs_to_the_phase_that_ends_with_it(monkeypatch):
    times = iter([0, 5, 7, 8, 12, 12.5])
    monkeypatch.setattr(meter.time, "monotonic", lambda: next(times))
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
        torch.ones(100 << 18)  # 100 MiB
        return peak_megabytes(CPU) - before

    assert 95 < float(in_child(grow)) < 130


def test_without_the_high_water_mark_the_system_is_asked(monkeypatch):
    class Nowhere:
        def __init__(self, path: str):
            pass

        def read_text(self, encoding: str) -> str:
            raise FileNotFoundError

    known = peak_megabytes(CPU)
    monkeypatch.setattr(meter, "Path", Nowhere)
    assert peak_megabytes(CPU) > 0.5 * known


def test_on_a_gpu_it_is_the_gpu_s(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: {1: 3 << 20}[device.index])
    assert peak_megabytes(torch.device("cuda:1")) == 3
