"""Steps in processes of their own, several at once: a step that fails or crashes leaves the others alone.

On Linux a server process imports the libraries once and forks itself for every step; elsewhere each process imports
them anew.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from ..kernels import prepare_process
from ..own_modules import import_parts
from ..training.monitor import Interrupted, NotedSignals
from .steps import Step

LOG = "output.log"
"""In a step's folder: what the step printed while others ran beside it."""

FAULTS = (TypeError, LookupError, AttributeError, NameError, AssertionError)
"""Errors in code, ours or that of parts of the user's own: told with their kind and their traceback."""

DIED = "its process died: it crashed or was killed (out of memory?)"
POLL_SECONDS = 0.5
PRELOADED = ("modeling_seqvae.reproduce.steps", "torch.utils.data", "sklearn.linear_model")
CONTEXT: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


@dataclass(eq=False)
class Job:
    """A step that runs: its process, what that will send at the end, and the place among the jobs that it takes."""

    step: Step
    place: int
    process: Any
    reason: Any  # a connection
    began: float

    @classmethod
    def start(cls, step: Step, place: int, arguments: Sequence[Any]) -> "Job":
        if sys.platform == "linux":
            CONTEXT.set_forkserver_preload(list(PRELOADED))
        reason, sender = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_run, args=(sender, step, *arguments))
        with _ctrl_c_waits():
            process.start()
        sender.close()
        return cls(step, place, process, reason, time.monotonic())

    @property
    def signs(self) -> list[Any]:
        """What becomes ready when it ends: either its process sends a reason, or that dies."""
        return [self.reason, self.process.sentinel]

    def end(self) -> str | None:
        """Wait for the process; returns why the step failed, None if it did not."""
        wait(self.signs)
        try:
            told: str | None = self.reason.recv() if self.reason.poll() else DIED
        except EOFError:
            told = DIED
        self.process.join()
        return told


def run_steps(
    steps: Sequence[Step],
    output_dir: Path,
    jobs: int = 1,
    threads: int | None = None,
    imports: Sequence[str] = (),
) -> dict[str, str]:
    """Run the steps, `jobs` at once, each after those it needs; returns the reasons of those that failed, by key.

    Each has `threads`, by default its share of the cores, and where there are several GPUs one of them. What a step
    prints goes to the log in its folder; a single job shows it. A line on standard error tells when a step starts and
    ends. `imports` are modules that register parts of the user's own. Steps that need a failed one are not tried.

    On SIGTERM or Ctrl-C the running steps save their state and end, and Interrupted (a SystemExit) is raised.
    """
    waiting, running, failed = list(steps), list[Job](), dict[str, str]()
    threads = threads or threads_for(jobs)
    devices = gpus()
    with NotedSignals() as signals:
        try:
            while (waiting or running) and not signals.number:
                for step in [step for step in waiting if any(need.key in failed for need in step.needs)]:
                    waiting.remove(step)
                    failed[step.key] = "not tried, because a step that it needs failed"
                    _tell(steps, waiting, running, f"{step.title}: failed: {failed[step.key]}")
                for step in _ready(waiting, running)[: jobs - len(running)]:
                    _tell(steps, waiting, running, f"{step.title}: started")
                    place = min(set(range(jobs)) - {job.place for job in running})
                    waiting.remove(step)
                    log = output_dir / step.folder / LOG if jobs > 1 else None
                    gpu = devices[place % len(devices)] if devices else None
                    running.append(Job.start(step, place, (output_dir, log, threads, gpu, imports)))
                wait([sign for job in running for sign in job.signs], POLL_SECONDS)
                for job in [job for job in running if wait(job.signs, 0) and not signals.number]:
                    running.remove(job)
                    reason = job.end()
                    if reason is not None:
                        failed[job.step.key] = reason
                    took = timedelta(seconds=round(time.monotonic() - job.began))
                    told = f"done in {took}" if reason is None else f"failed: {first_line(reason)}"
                    _tell(steps, waiting, running, f"{job.step.title}: {told}")
        finally:
            if signals.number and running:
                titles = ", ".join(job.step.title for job in running)
                note(f"stopping as soon as these have saved their state: {titles}; the same command goes on")
            for job in running:
                job.process.terminate()
            for job in running:
                job.end()
    if signals.number:
        raise Interrupted(128 + signals.number)
    return failed


def failures(steps: Sequence[Step], failed: Mapping[str, str], output_dir: Path, jobs: int) -> str:
    """A line for each step that failed: its reason, and the log where it has one."""
    return "\n".join(
        f"  {step.title}: {first_line(failed[step.key])}"
        + (f" (log: {output_dir / step.folder / LOG})" if jobs > 1 else "")
        for step in steps
        if step.key in failed
    )


def threads_for(jobs: int) -> int:
    """Threads for each of so many processes: a share of OMP_NUM_THREADS, or else of the cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, (int(asked) if asked.isdecimal() and int(asked) else cores) // jobs)


def gpus() -> list[str]:
    """The GPUs among which processes are divided, as CUDA_VISIBLE_DEVICES names them; none where there is only one."""
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    return names[:count] if count > 1 else []


def first_line(text: str) -> str:
    """The first line of a reason."""
    return (text.strip().splitlines() or [""])[0]


def note(text: str) -> None:
    """Tell the user something that is no result."""
    print(text, file=sys.stderr, flush=True)


def _tell(steps: Sequence[Step], waiting: Sequence[Step], running: Sequence[Job], line: str) -> None:
    note(f"[{len(steps) - len(waiting) - len(running)}/{len(steps)}] {line}")


def _ready(waiting: Sequence[Step], running: Sequence[Job]) -> list[Step]:
    """Steps none of whose needs is waiting or running."""
    unfinished = {step.key for step in waiting} | {job.step.key for job in running}
    return [step for step in waiting if not any(need.key in unfinished for need in step.needs)]


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Processes that begin inside never receive a Ctrl-C, not even while they import; this one does, at the end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it later would unblock the signal
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _run(sender: Any, *arguments: Any) -> None:
    """What a step's process does: the step, and to send why it failed."""
    _end_with_parent()
    with suppress(BrokenPipeError):  # of a parent that has died
        sender.send(_do(*arguments))


def _do(
    step: Step, output_dir: Path, log: Path | None, threads: int, gpu: str | None, imports: Sequence[str]
) -> str | None:
    """Run a step in this process; returns why it failed, None if it did not."""
    if log is None:
        os.dup2(2, 1)  # the results of the command alone go to standard output
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        _print_to(log)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    prepare_process()
    logging.disable_progress_bar()  # transformers'
    warnings.showwarning = lambda message, *unused: note(f"warning: {message}")  # as the command line shows them
    try:
        import_parts(imports)
        step.run(output_dir)
    except Interrupted:
        return "stopped by a signal; its state is saved"
    except BaseException as error:
        fault = isinstance(error, FAULTS)
        if log is not None or fault:
            traceback.print_exc()
        kind = type(error).__name__
        return f"{kind}: {error}" if fault else str(error) or kind
    return None


def _end_with_parent() -> None:
    """Let this process receive a SIGTERM, at which a training saves its state, when its parent has died."""
    parent: Any = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _print_to(log: Path) -> None:
    """Write both outputs of this process, those of libraries in C included, to the end of a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.close(descriptor)
