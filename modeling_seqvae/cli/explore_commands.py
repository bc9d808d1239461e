"""The commands `explore` and `plot`: a model to look at, in the browser and as files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .app import app, found_device, note, require_writable
from .options import USE, Checkpoint, DataDir, Device, LabelColumn, TextColumn

TextsToSee = Annotated[
    Path | None,
    typer.Argument(
        metavar="TEXTS",
        help="The texts on the map: a file as for encode. Default: the validation set of the run.",
    ),
]
Points = Annotated[
    int, typer.Option(min=2, max=10_000, metavar="COUNT", help="Texts on the map; of more, some are drawn at random.")
]


@app.command(rich_help_panel=USE)
def explore(
    checkpoint: Checkpoint,
    texts: TextsToSee = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    data_dir: DataDir = None,
    points: Points = 2_000,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen: 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65_535, metavar="NUMBER", help="Default: the first from 7860 on that is free."),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    device: Device = None,
) -> None:
    """Look at a model in the browser.

    A page with a map of texts, new sentences, ways between two texts, single dimensions, edits and the costs of words.

    It needs no network and sends nothing to others. Stop it with Ctrl-C.

    Example: seqvae explore RUN reviews.csv --label-column stars
    """
    from ..explore.page import launch, require_gradio

    require_gradio()
    explorer = _opened(checkpoint, texts, text_column, label_column, data_dir, points, device)
    launch(explorer, host, port, inbrowser=browser)


@app.command(rich_help_panel=USE)
def plot(
    checkpoint: Checkpoint,
    texts: TextsToSee = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder for the pictures and tables.")
    ] = Path("plots"),
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    data_dir: DataDir = None,
    points: Points = 2_000,
    method: Annotated[str, typer.Option("--map", metavar="NAME", help="pca, tsne or (with umap-learn) umap.")] = "pca",
    colour: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="label, length, NLL or 'NLL per token'. Default: the labels; without them, the length.",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(metavar="SENTENCE", help="Traverse around this text. Default: the middle of the prior."),
    ] = None,
    device: Device = None,
) -> None:
    """Draw a model's map, dimensions and training curves.

    Writes PNG, CSV and figures.json, with KL and variance of each dimension and, with labels, MIG and SAP.

    Example: seqvae plot RUN reviews.csv --label-column stars -o plots
    """
    from ..evaluation.drawing import require_matplotlib
    from ..explore.pictures import write_pictures

    require_matplotlib()
    require_writable(output)
    explorer = _opened(checkpoint, texts, text_column, label_column, data_dir, points, device)
    written = write_pictures(explorer, output, method, colour, text)
    note(f"written to {output}: {', '.join(written)}")


def _opened(
    checkpoint: str,
    texts: Path | None,
    text_column: str | None,
    label_column: str | None,
    data_dir: Path | None,
    points: int,
    device: str | None,
) -> Any:
    """The model and the texts; a note says which."""
    from ..explore.opening import open_explorer

    device = found_device(device)
    if texts is None and (text_column or label_column):
        raise ValueError("--text-column and --label-column are of a file: name the file after the checkpoint")
    explorer = open_explorer(checkpoint, texts, text_column, label_column, data_dir, points, device)
    some = f" of {len(explorer.texts) + explorer.left_out:,}" if explorer.left_out else ""
    note(f"{len(explorer.texts):,}{some} texts: {explorer.source}")
    return explorer
