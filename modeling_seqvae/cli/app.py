"""The `seqvae` application, to which the files beside this one add their commands.

Mistakes become one sentence each: what cannot work is refused before the work begins, and the rest explained.
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
from .options import Imports

EXPECTED = (ValueError, OSError, RuntimeError, MemoryError, FloatingPointError, ModuleNotFoundError)
"""What mistakes of a user, and the limits of a machine, make the package and its libraries raise."""

LONGEST = 2000
"""Characters of a message."""


class Commands(TyperGroup):
    """Turns expected errors and warnings into sentences on standard error; `--debug` shows where an error arose."""

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
    """Tell the user something that is no result: on standard error, so that results can be written to a file."""
    print(text, file=sys.stderr)


def require_device(name: str | None) -> None:
    """Refuse a device that this machine does not have, or this torch does not know."""
    try:
        torch.empty(0, device=name or "cpu")
    except (RuntimeError, AssertionError) as error:  # of an unknown name, and of a build without it
        raise ValueError(f"--device {name} cannot be used here: {str(error).splitlines()[0]}") from None


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written before the work begins, not after it."""
    nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"{nearest} is a file, and {folder} would have to be a folder")
    if not os.access(nearest, os.W_OK):
        raise PermissionError(f"{nearest} is not writable")


def require_file(path: Path) -> None:
    """Refuse a file that cannot be written."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    require_writable(path.parent)


def require_unicode(texts: list[str]) -> list[str]:
    """The texts, refused where one was typed or piped in another encoding than UTF-8, which Python lets through."""
    for number, text in enumerate(texts, start=1):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"text {number} is not UTF-8: {text[:80]!a}") from None
    return texts


def _bounded(message: str) -> str:
    """A message without the pages that a library may have put into it."""
    if len(message) <= LONGEST:
        return message
    return f"{message[:LONGEST]} ... ({len(message) - LONGEST:,} more characters, which `seqvae --debug` shows)"


def _sentence(error: BaseException) -> str:
    """What went wrong; for an error of the operating system, with the file before it."""
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
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error arose.")] = False,
    imports: Imports = None,
) -> None:
    """Sequence VAEs on text with pooled encoders: train, measure, sample, encode."""
    if imports:
        from ..registry import import_parts

        import_parts(imports)
