"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[
    str,
    typer.Argument(metavar="CHECKPOINT", help="A run's directory, a checkpoint's directory, or a name on the hub."),
]
Method = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="What to train: unigram_pretraining, max_pool, seqvae (the last state), lstm_lm, ... (`seqvae list "
        "methods`), or a YAML file of yours.",
    ),
]
CorpusName = Annotated[
    str,
    typer.Option(
        "--corpus",
        metavar="NAME",
        help="On what: demo, ptb, yahoo, ... (`seqvae list corpora`), a YAML file of yours, or your text: a .txt, "
        ".csv, .tsv, .jsonl or .parquet file, or a folder with files train, validation and test.",
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
        "presets`), or a YAML file of yours. Default: the corpus's own; auto for a file of yours.",
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
        "--limit", metavar="SPLIT=COUNT", help="Only the first documents of a split, as in --limit train=10000."
    ),
]
Texts = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A .txt file with one text a line, a .csv, .tsv, .jsonl or .parquet table, or - for standard input.",
    ),
]
TextColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="The column that holds the text, in a table of yours.")
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The column that holds the label, in a table of yours; of a .txt it says that a line is label<TAB>text.",
    ),
]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="A module or Python file of yours that registers parts, such as an aggregation. A run remembers those it "
        "was trained with. May be repeated.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, metavar="NUMBER", help="The seed of everything random.")]
Device = Annotated[
    str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ... Default: a GPU if there is one.")
]
BatchSize = Annotated[
    int, typer.Option(min=1, metavar="NUMBER", help="Texts at a time: changes speed and memory, not results.")
]
