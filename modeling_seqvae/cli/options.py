"""Arguments and options that several commands share, and the groups of commands in `seqvae --help`."""

from pathlib import Path
from typing import Annotated

import typer

TRAIN, USE, SHARE, PAPER = PANELS = "Train and measure", "Use a model", "Share", "Reproduce the paper"
"""The groups of commands in `seqvae --help`, in order."""

Checkpoint = Annotated[
    str,
    typer.Argument(metavar="CHECKPOINT", help="A run's folder, a checkpoint's folder, or a model on the hub."),
]
Method = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="The kind of model: unigram_pretraining, max_pool, seqvae (the last state), lstm_lm, ... (`seqvae list "
        "methods`), or your own YAML file.",
    ),
]
CorpusName = Annotated[
    str,
    typer.Option(
        "--corpus",
        metavar="NAME",
        help="The texts: demo, ptb, yahoo, ... (`seqvae list corpora`), your own YAML file, or your texts: a .txt, "
        ".csv, .tsv, .jsonl, .json or .parquet file, or a folder with files train, validation and test.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The folder with the files of a named corpus, such as DIR/ptb/ptb.train.txt."),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        "--training",
        metavar="NAME",
        help="Sizes and schedule: auto, paper, small, fast, demo, tiny (to try commands), ... (`seqvae list "
        "presets`), or your own YAML file. Default: the corpus's own preset; auto for your own file.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Change one field of the recipe, as in --set training.epochs=5 --set model.latent_size=16.",
    ),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit", metavar="SPLIT=COUNT", help="Use only the first documents of a split, as in --limit train=10000."
    ),
]
Texts = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A .txt file with one text a line, a .csv, .tsv, .jsonl, .json or .parquet table; - is standard input.",
    ),
]
TextColumn = Annotated[str | None, typer.Option(metavar="NAME", help="The column with the texts, in your own table.")]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The column with the labels, in your own table. For a .txt: each line is label<TAB>text.",
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        metavar="NAME",
        help="A column of FILE to write before the results, such as an id or a label. May be repeated. Default: all.",
    ),
]
NoKeep = Annotated[bool, typer.Option("--no-keep", help="Write the results alone.")]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="Your own module or Python file that registers parts, such as an aggregation. A run remembers its "
        "modules. May be repeated.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, metavar="NUMBER", help="The random seed.")]
Device = Annotated[
    str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ... Default: a GPU if there is one.")
]
BatchSize = Annotated[
    int, typer.Option(min=1, metavar="NUMBER", help="Texts computed at once: changes speed and memory, not results.")
]
