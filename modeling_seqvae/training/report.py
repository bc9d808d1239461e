"""What a run prints: a table that grows by a line an epoch, above the progress bar."""

import sys
from typing import Any

from tqdm import tqdm

COLUMNS = {
    "epoch": ("{:>5}", "epoch"),
    "kl_weight": ("{:>9.2f}", "kl weight"),
    "bound": ("{:>8.2f}", "-ELBO"),
    "rec": ("{:>8.2f}", "rec"),
    "kl": ("{:>6.2f}", "kl"),
    "mi": ("{:>z6.2f}", "mi"),
    "au": ("{:>3}", "au"),
    "cosine": ("{:>z6.2f}", "cosine"),
    "lr": ("{:>7.4g}", "lr"),
    "seconds": ("{:>8.0f}", "seconds"),
    "words_per_second": ("{:>8,}", "words/s"),
}


def progress_bar(total: int, done: int, shown: bool) -> tqdm:
    """A bar over all updates of a run: its time left is what remains at most, since a plateau may end the run sooner.

    In a log file it writes a line a minute instead of ten a second.
    """
    interval = 0.1 if sys.stderr.isatty() else 60
    return tqdm(total=total, initial=done, unit="batch", disable=not shown, smoothing=0.02, mininterval=interval)


class EpochTable:
    """Prints records of a history as aligned lines, the header first."""

    def __init__(self, bar: tqdm, history: list[dict[str, Any]]):
        self.bar = bar
        self._write("  ".join(_width(form).format(title) for form, title in COLUMNS.values()))
        for record in history:
            self.add(record)

    def add(self, record: dict[str, Any]) -> None:
        self._write("  ".join(_cell(form, record.get(name)) for name, (form, _) in COLUMNS.items()))

    def _write(self, line: str) -> None:
        if not self.bar.disable:
            self.bar.write(line)


def _cell(form: str, value: Any) -> str:
    return _width(form).format("-") if value is None else form.format(value)


def _width(form: str) -> str:
    digits = "".join(character for character in form.split(".")[0] if character.isdigit())
    return f"{{:>{digits}}}"
