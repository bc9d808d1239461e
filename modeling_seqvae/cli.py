"""The `seqvae` command."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _group() -> None:
    """Sequence VAEs on text."""


@app.command()
def train(
    output_dir: Annotated[Path, typer.Option(help="Directory of the run.")],
    method: Annotated[str, typer.Option()] = "max_pool",
    corpus: Annotated[str, typer.Option()] = "demo",
    data_dir: Annotated[Path | None, typer.Option()] = None,
    preset: Annotated[str | None, typer.Option("--training")] = None,
    limit: Annotated[list[str], typer.Option()] = [],
    overrides: Annotated[list[str], typer.Option("--set")] = [],
    resume: Annotated[bool, typer.Option()] = False,
) -> None:
    """Train a model."""
    from .training import run
    from .training.recipe import resolve

    limits = {split: int(count) for split, _, count in (item.partition("=") for item in limit)}
    run.train(resolve(method, corpus, preset, overrides, limits), output_dir, data_dir, resume)


def main() -> None:
    app()
