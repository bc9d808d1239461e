"""Steps in processes of their own, several at once: what one of them does, a crash included, leaves the others alone.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from ..kernels import keep_freed_memory
from ..training.monitor import Interrupted, NotedSignals
from .progress import Bars, first_line
from .steps import Step

LOG = "output.log"
"""What the steps of a folder print, one after the other."""

POLL_SECONDS = 0.5
PRELOADED = ("modeling_seqvae.reproduce.steps", "torch.utils.data", "sklearn.linear_model")
CONTEXT: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


def threads_for(jobs: int) -> int:
    """Threads for each of so many processes: a share of OMP_NUM_THREADS, or else of the cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, (int(asked) if asked.isdecimal() and int(asked) else cores) // jobs)


@dataclass(eq=False)
class Worker:
    """A process at work on one thing, and the pipe through which it says how it ended."""

    process: Any
    pipe: Connection
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, function: Callable[..., Any], *arguments: Any, threads: int, log: Path | None) -> "Worker":
        """Call a function of a module in another process, which writes what it prints to `log`, or nowhere."""
        pipe, theirs = CONTEXT.Pipe(duplex=False)
        if sys.platform == "linux":
            CONTEXT.set_forkserver_preload(list(PRELOADED))
        process = CONTEXT.Process(target=_call, args=(theirs, function, arguments, threads, log))
        with _ctrl_c_waits():
            process.start()
        theirs.close()
        return cls(process, pipe)

    def result(self) -> Any:
        """What the function returned, once the process has ended. Raises RuntimeError with the reason it gave."""
        try:
            succeeded, value = self.pipe.recv()
        except EOFError:  # it died without a word
            succeeded, value = False, None
        self.process.join()
        self.pipe.close()
        if not succeeded:
            raise RuntimeError(value or _how_it_died(self.process.exitcode))
        return value


def call(function: Callable[..., Any], *arguments: Any, threads: int) -> Any:
    """What a function of a module returns in another process. Raises RuntimeError where it fails there.

    On SIGTERM or Ctrl-C the process is ended, and then this, as Interrupted (a SystemExit).
    """
    worker = Worker.start(function, *arguments, threads=threads, log=None)
    with NotedSignals() as signals:
        while not signals.number and not wait([worker.pipe], POLL_SECONDS):
            pass
    if signals.number:
        _stop([worker])
        raise Interrupted(128 + signals.number)
    return worker.result()


def run_steps(
    steps: Sequence[Step], output_dir: Path, jobs: int, bars: Bars, threads: int | None = None
) -> dict[str, str]:
    """Do the steps, `jobs` at once, each after those it needs; returns the reasons of those that failed, by key.

    `threads` are for each; None: its share of the cores. What needs a failed one is not tried, the rest goes on. On
    SIGTERM or Ctrl-C all that run save their state and end, and then this does, as Interrupted (a SystemExit).
    """
    waiting, running, failed = list(steps), dict[str, tuple[Step, Worker]](), dict[str, str]()
    threads = threads or threads_for(jobs)
    with NotedSignals() as signals, bars:
        try:
            while (waiting or running) and not signals.number:
                for step in [step for step in waiting if any(need.key in failed for need in step.needs)]:
                    waiting.remove(step)
                    failed[step.key] = "not tried, since what it needs has failed"
                    bars.end(step, failed[step.key])
                for step in _ready(waiting, running)[: jobs - len(running)]:
                    waiting.remove(step)
                    log = output_dir / step.folder / LOG
                    running[step.key] = step, Worker.start(step.run, output_dir, threads=threads, log=log)
                    bars.begin(step)
                wait([worker.pipe for _, worker in running.values()], POLL_SECONDS)
                for key, (step, worker) in list(running.items()):
                    if worker.pipe.poll() and not signals.number:
                        del running[key]
                        _end(step, worker, failed, bars)
                bars.show()
        finally:
            if signals.number:
                bars.stopping()
            _stop([worker for _, worker in running.values()])
    if signals.number:
        raise Interrupted(128 + signals.number)
    return failed


def failures(steps: Sequence[Step], failed: Mapping[str, str], output_dir: Path) -> str:
    """A line for each step that failed: its reason, and where the rest of what it printed is."""
    return "\n".join(
        f"  {step.title}: {first_line(failed[step.key])} (log: {output_dir / step.folder / LOG})"
        for step in steps
        if step.key in failed
    )


def _ready(waiting: Sequence[Step], running: Mapping[str, Any]) -> list[Step]:
    """Steps none of whose needs is waiting or running."""
    unfinished = {step.key for step in waiting} | running.keys()
    return [step for step in waiting if not any(need.key in unfinished for need in step.needs)]


def _end(step: Step, worker: Worker, failed: dict[str, str], bars: Bars) -> None:
    try:
        worker.result()
    except RuntimeError as error:
        failed[step.key] = str(error)
    bars.end(step, failed.get(step.key))


def _stop(workers: Sequence[Worker]) -> None:
    """Ask those that still run to save and end, and wait for them all."""
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join()


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Processes that begin inside never hear a Ctrl-C, neither while they import; this one hears it at the end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # whose start would let it through
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _call(
    pipe: Connection, function: Callable[..., Any], arguments: Sequence[Any], threads: int, log: Path | None
) -> None:
    """What a process does: call the function and tell how that went.

    A Ctrl-C is the parent's matter, which then ends its processes; and where the parent is killed, they end as well.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    _print_to(log or Path(os.devnull))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    keep_freed_memory()
    try:
        pipe.send((True, function(*arguments)))
    except Interrupted:
        pipe.send((False, "stopped by a signal; its state is saved"))
    except BaseException as error:
        traceback.print_exc()
        pipe.send((False, str(error) or type(error).__name__))
        raise SystemExit(1) from None


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and wait([parent.sentinel]):
        os.kill(os.getpid(), signal.SIGTERM)


def _print_to(log: Path) -> None:
    """Both outputs of this process, also of its libraries' own code, into a file, after what it holds."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.close(descriptor)


def _how_it_died(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"its process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"its process ended with exit code {exitcode}"
