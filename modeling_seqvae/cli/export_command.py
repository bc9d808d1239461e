"""The command `export`."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, note, require_writable
from .inputs import load_model, read_texts, refuse_columns
from .options import SHARE, Checkpoint, LabelColumn, TextColumn


@app.command(rich_help_panel=SHARE)
def export(
    checkpoint: Checkpoint,
    texts: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="Texts to compare the exported encoder on: a file as for encode, or -. Default: sentences that the "
            "model writes.",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write; created if missing.")
    ] = Path("onnx"),
    no_int8: Annotated[bool, typer.Option("--no-int8", help="Leave out the file with weights of eight bits.")] = False,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
) -> None:
    r"""Export the encoder to ONNX, for services without PyTorch.

    Writes encoder.onnx, encoder.int8.onnx, tokenizer.json and export.json, and prints by how much the values of the two
    encoders differ from the model's. Needs the extra: pip install 'seqvae\[onnx]'.

    Example: seqvae export RUN reviews.csv --output encoder
    """
    from ..hub.export import export_onnx

    if texts is None:
        refuse_columns("FILE", text_column, label_column)
    require_writable(output)
    listed = None if texts is None else read_texts(texts, checkpoint, text_column, label_column)
    facts = export_onnx(load_model(checkpoint, None), output, listed, int8=not no_int8)
    print(f"{'file':18} {'MiB':>6}  {'output':9} {'largest difference':>18} {'relative':>9}")
    for name, outputs in facts["differences"].items():
        size = f"{(output / name).stat().st_size / 2**20:.2f}"
        for of_output, found in outputs.items():
            relative = "–" if found["relative"] is None else f"{found['relative']:.1e}"
            print(f"{name:18} {size:>6}  {of_output:9} {found['largest']:18.1e} {relative:>9}")
            name = size = ""
    note(f"compared on {facts['compared_on']}; how to read the files: docs/serving.md")
