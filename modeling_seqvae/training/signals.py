"""Signals that wait: SIGTERM and Ctrl-C are noted, and the trainer saves and stops at the end of an update."""

import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(SystemExit):
    """A signal asked the run to stop; the state was saved. The exit code is the shell's convention, 128 + signal."""


class NotedSignals:
    """Inside the block SIGTERM and Ctrl-C end nothing but are noted in `number`; a second Ctrl-C does not wait.

    Only a program's main thread receives signals: in another thread none is noted.
    """

    def __init__(self) -> None:
        self.number = 0
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "NotedSignals":
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *unused: Any) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
