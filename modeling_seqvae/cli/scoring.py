"""The command `score`: how likely a model finds each text."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .checks import note, require_device, require_file
from .inputs import load_model, read_texts
from .options import BatchSize, Checkpoint, Device, LabelColumn, Seed, TextColumn, Texts


@app.command()
def score(
    checkpoint: Checkpoint,
    texts: Texts,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="A .csv, .parquet or .jsonl file; one row a text, in order."
        ),
    ],
    nll_samples: Annotated[int, typer.Option(min=1, metavar="COUNT", help="Importance samples a text.")] = 500,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Score each text: its NLL in nats, and its tokens.

    Tokens are the words and the end of the text; exp(total NLL / total tokens) is the perplexity.

    The NLL is an importance-weighted estimate, and exact of a language model.

    Example: seqvae score RUN reviews.csv -o nll.csv
    """
    from ..evaluation.scoring import perplexity, require_suffix, score_texts, write_scores

    require_suffix(output)
    require_file(output)
    require_device(device)
    listed = read_texts(texts, checkpoint, text_column, label_column)
    scores = score_texts(load_model(checkpoint, device), listed, nll_samples, seed, batch_size)
    write_scores(scores, output)
    found = f" (NLL {scores['nll'].mean():.2f} nats a text, PPL {perplexity(scores):.2f})" if listed else ""
    note(f"{len(scores):,} texts scored{found}: {output}")
