"""The `seqvae` application, to which the files beside this one add their commands."""

from typing import Annotated

import typer

from .. import __version__
from .checks import Commands
from .options import Imports

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
