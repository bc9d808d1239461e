"""The command `score`: how likely a model finds each text."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .checks import note, require_file
from .inputs import load_model, processes, shared_rows
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

    Large files, interruptions and several processes are as for encode.

    Example: seqvae score RUN reviews.csv -o nll.csv
    """
    from ..evaluation.scoring import require_suffix, score_to_file

    require_suffix(output)
    require_file(output)
    state, own = processes(device)
    rows = shared_rows(texts, checkpoint, text_column, label_column, state)
    totals = score_to_file(load_model(checkpoint, own), rows, output, nll_samples, seed, batch_size, state=state)
    if state.is_main_process:
        mean = totals.nll / max(1, totals.texts)
        found = f" (NLL {mean:.2f} nats a text, PPL {totals.perplexity:.2f})" if totals.texts else ""
        note(f"{totals.texts:,} texts scored{found}: {output}")
