"""The `seqvae` application, to which the files beside this one add their commands.

A user's mistake ends in one sentence, before the work begins where that is possible.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from transformers.utils import logging
from typer.core import TyperGroup

from .. import __version__
from .options import PANELS, Imports

EXPECTED = (ValueError, OSError, RuntimeError, MemoryError, FloatingPointError, ImportError)
"""Errors that a user's mistake or the machine's limits cause: shown as one sentence, without a traceback."""

LONGEST = 2000
"""The most characters of a message that are shown."""


class Commands(TyperGroup):
    """Prints expected errors and warnings as sentences on standard error; `--debug` shows the traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands in the order of their panels."""
        panels = [getattr(command, "rich_help_panel", None) for command in self.commands.values()]
        named = zip(self.commands, panels, strict=True)
        return [name for name, panel in sorted(named, key=lambda pair: pair[1] in PANELS and PANELS.index(pair[1]))]

    def invoke(self, ctx: Any) -> Any:
        logging.disable_progress_bar()
        try:
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *unused: note(f"seqvae: warning: {_bounded(str(message))}")
                result = super().invoke(ctx)
            sys.stdout.flush()  # a closed pipe or a full disk shows here
            return result
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise  # typer knows what to do
        except EXPECTED as error:
            if ctx.params["debug"]:
                raise
            note(f"seqvae: {_bounded(_sentence(error))}")
            raise typer.Exit(1) from None


def note(text: str) -> None:
    """Print a message for the user on standard error, so that standard output holds results only."""
    print(text, file=sys.stderr)


def imported(ctx: typer.Context, own: list[str] | None) -> list[str]:
    """The modules that `--import` names, before the command and after it."""
    return [*dict.fromkeys([*(ctx.find_root().params.get("imports") or ()), *(own or ())])]


def require_device(name: str | None) -> None:
    """Raise ValueError for a device that this machine or this torch does not have."""
    try:
        torch.empty(0, device=name or "cpu")
    except (RuntimeError, AssertionError) as error:  # of an unknown name, and of a build without it
        raise ValueError(f"--device {name} cannot be used here: {str(error).splitlines()[0]}") from None


def found_device(name: str | None) -> str:
    """The device of that name, or a GPU if there is one, else the CPU. Raises what `require_device` raises."""
    require_device(name)
    return name or ("cuda" if torch.cuda.is_available() else "cpu")


def require_writable(folder: Path) -> None:
    """Raise an OSError, before the work begins, where a folder cannot be written to."""
    nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"{nearest} is a file, so the folder {folder} cannot be made")
    if not os.access(nearest, os.W_OK):
        raise PermissionError(f"{nearest} is not writable")


def require_file(path: Path, *read: Path | str | None) -> None:
    """Raise an OSError, before the work begins, where a file cannot be written, or is one of those that are read."""
    for other in read:
        if other and path.exists() and Path(other).exists() and path.samefile(other):
            raise FileExistsError(f"{path} is the file that is read, and would be lost: name another --output")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    require_writable(path.parent)


def require_unicode(texts: list[str]) -> list[str]:
    """Return the texts. Raises ValueError for one that was typed or piped in another encoding than UTF-8."""
    for number, text in enumerate(texts, start=1):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"text {number} is not UTF-8: {text[:80]!a}") from None
    return texts


def _bounded(message: str) -> str:
    """The first `LONGEST` characters of a message: some libraries write pages."""
    if len(message) <= LONGEST:
        return message
    return f"{message[:LONGEST]} ... ({len(message) - LONGEST:,} more characters, which `seqvae --debug` shows)"


def _sentence(error: BaseException) -> str:
    """The message of an error; for an error of the operating system, the file before it."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"there is not enough memory: {error}" if str(error) else "there is not enough memory"
    return str(error) or type(error).__name__


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"seqvae {__version__}")
        raise typer.Exit


@app.callback()
def _group(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    imports: Imports = None,
) -> None:
    """Sequence VAEs on text: train, measure, use and share them."""
    if imports:
        from ..own_modules import import_parts

        import_parts(imports)
