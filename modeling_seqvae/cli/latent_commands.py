"""The commands `neighbours`, `analogy` and `edit`, which work in the latent space."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, note, require_unicode
from .inputs import load_model, read_texts
from .options import USE, BatchSize, Checkpoint, Device, LabelColumn, TextColumn


@app.command(rich_help_panel=USE)
def neighbours(
    checkpoint: Checkpoint,
    texts: Annotated[Path, typer.Argument(metavar="FILE", help="The texts to search: a file as for encode, or -.")],
    query: Annotated[str, typer.Argument(metavar="SENTENCE", help="The sentence to compare with, in quotes.")],
    k: Annotated[int, typer.Option("-k", "--count", min=1, metavar="COUNT", help="The number of texts to find.")] = 5,
    metric: Annotated[str, typer.Option(metavar="NAME", help="cosine or euclidean.")] = "cosine",
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    batch_size: BatchSize = 32,
    device: Device = None,
) -> None:
    """Find the texts of a file that are nearest to a sentence.

    Prints distance, number of the text in the file (from 1) and text, separated by tabs, nearest first.

    Example: seqvae neighbours RUN reviews.txt "this bistro was lovely."
    """
    require_unicode([query])
    listed = read_texts(texts, checkpoint, text_column, label_column)
    vae = load_model(checkpoint, device)
    vae.batch_size = batch_size
    for found in vae.neighbours(query, listed, k, metric):
        print(f"{found.distance:.4f}\t{found.position + 1}\t{' '.join(found.text.split())}")


@app.command(rich_help_panel=USE)
def analogy(
    checkpoint: Checkpoint,
    a: Annotated[str, typer.Argument(metavar="A", help="A sentence, in quotes.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What it becomes.")],
    c: Annotated[str, typer.Argument(metavar="C", help="The sentence to change in the same way.")],
    device: Device = None,
) -> None:
    """Complete an analogy: A is to B as C is to the answer.

    Changes sentence C in the way that leads from A to B, and prints the result.

    Example: seqvae analogy RUN "the food was bad ." "the food was good ." "the room was bad ."
    """
    require_unicode([a, b, c])
    print(load_model(checkpoint, device).analogy(a, b, c))


@app.command(rich_help_panel=USE)
def edit(
    checkpoint: Checkpoint,
    texts: Annotated[list[str], typer.Argument(metavar="SENTENCE", help="The sentences to edit, each in quotes.")],
    examples: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Texts with labels: a .csv, .tsv, .jsonl, .json or .parquet table, or a .txt of lines label<TAB>text.",
        ),
    ],
    towards: Annotated[str, typer.Option(metavar="LABEL", help="The label to move towards.")],
    away: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The label to move away from. Default: all others.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(metavar="NAME", help="means (difference of the two means) or logistic (normal of a regression)."),
    ] = "means",
    strengths: Annotated[
        str,
        typer.Option(metavar="NUMBERS", help="How far, in multiples of the direction; 0 is the reconstruction."),
    ] = "0,0.5,1",
    text_column: TextColumn = None,
    label_column: Annotated[
        str, typer.Option(metavar="NAME", help="The column with the labels, in the table.")
    ] = "label",
    batch_size: BatchSize = 32,
    device: Device = None,
) -> None:
    """Move sentences from one label towards another.

    The direction in latent space comes from labelled examples. Prints strength and sentence, separated by a tab.

    Example: seqvae edit RUN "the food was bad ." --examples reviews.csv --label-column stars --towards 5 --away 1
    """
    from ..data.labels import label_name

    require_unicode(texts)
    steps = _numbers(strengths)
    listed, labels = _read_labelled(examples, checkpoint, text_column, label_column)
    vae = load_model(checkpoint, device)
    vae.batch_size = batch_size
    other = None if away is None else label_name(away)
    direction = vae.direction(listed, labels, label_name(towards), other, method)
    for sentences in vae.edit(texts, direction, steps):
        for strength, sentence in zip(steps, sentences, strict=True):
            print(f"{strength:+g}\t{sentence}")


def _numbers(listed: str) -> list[float]:
    try:
        return [float(number) for number in listed.split(",")]
    except ValueError:
        raise ValueError(f"--strengths {listed!r} is not a list of numbers such as 0,0.5,1") from None


def _read_labelled(
    path: Path, checkpoint: str, text_column: str | None, label_column: str
) -> tuple[list[str], list[str]]:
    """Read a labelled file: its texts and the names of their classes. Prints a note on what was read."""
    from ..training.checkpoint import texts_for

    rows, report = texts_for(checkpoint, path, text_column, label_column)
    note(f"{report.source}: {report}")
    return list(rows["text"]), list(rows["label"])
