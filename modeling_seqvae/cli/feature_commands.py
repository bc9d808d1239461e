"""The commands `encode`, `classify` and `score`, which turn texts into numbers."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from .app import app, note, require_device, require_file, require_writable
from .inputs import corpus_named, limits_of, load_model, processes, reference_rows, shared_rows
from .options import (
    USE,
    BatchSize,
    Checkpoint,
    DataDir,
    Device,
    Keep,
    LabelColumn,
    Limits,
    NoKeep,
    Seed,
    TextColumn,
    Texts,
)

Features = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="mean, mean_variance (both, concatenated), centre, or pooled (the encoder's vector before the posterior).",
    ),
]


@app.command(rich_help_panel=USE)
def encode(
    checkpoint: Checkpoint,
    texts: Texts,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="A .npy, .csv, .parquet or .jsonl file, one row per text."),
    ],
    features: Features = "mean_variance",
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    keep: Keep = None,
    no_keep: NoKeep = False,
    batch_size: BatchSize = 32,
    device: Device = None,
) -> None:
    """Turn texts into features for a classifier.

    They are written behind the columns of the texts' own file; a .npy holds the features alone.

    The file may be larger than memory. Finished parts are kept in FILE.parts until the end: after an interruption, the
    same command continues. Under torchrun or accelerate launch the processes share the work.

    Example: seqvae encode RUN reviews.csv -o features.npy
    """
    from ..evaluation.encoding import ARRAY, encode_to_file, require_suffix

    array = require_suffix(output) == ARRAY
    require_file(output, texts)
    state, own = processes(device)
    read = shared_rows(texts, checkpoint, text_column, label_column, state)
    kept = read.kept(keep, no_keep or (array and not keep)) or ()
    encode_to_file(load_model(checkpoint, own), read.rows, output, features, batch_size, keep=kept, state=state)
    if state.is_main_process:
        note(f"{len(read.rows):,} texts encoded: {output}")


@app.command(rich_help_panel=USE)
def classify(
    checkpoints: Annotated[
        list[str],
        typer.Argument(metavar="CHECKPOINT", help="One or more runs, checkpoints or models on the hub."),
    ],
    corpus: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Labelled texts: yelp_sentiment, yelp_stars, ..., your own YAML file, a table (.csv, .tsv, .jsonl, "
            ".json, .parquet), or a folder with files train, validation and test.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="The folder for report.md, report.json and (with matplotlib) confusion.png.",
        ),
    ],
    data_dir: DataDir = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    limit: Limits = None,
    features: Features = "mean_variance",
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Score on test, or on validation, where settings are chosen.")
    ] = "test",
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Test how well classifiers predict labels from the features.

    Trains a logistic regression and an MLP on the features of each checkpoint. TF-IDF and the majority class are shown
    for comparison.

    Example: seqvae classify RUN --corpus reviews.csv --label-column stars --output report
    """
    from ..data.corpora import load_corpus
    from ..data.files import write_json, write_text, writing
    from ..data.subwords import GIVEN
    from ..evaluation.classification_report import report_markdown, summary
    from ..evaluation.classify import classify, require_labels, require_scored
    from ..tokenization import is_word_level
    from ..training.recipe import corpus_spec

    require_device(device)
    require_writable(output)
    require_scored(split)
    if len(set(checkpoints)) < len(checkpoints):
        raise ValueError("a checkpoint is given twice; give each checkpoint once")
    spec = corpus_spec(corpus_named(corpus, text_column, label_column, checkpoints))
    vaes = {checkpoint: load_model(checkpoint, device) for checkpoint in checkpoints}
    if not all(is_word_level(vae.tokenizer) for vae in vaes.values()):
        spec = spec.model_copy(update={"tokenizer": GIVEN})  # read whole; each model cuts its own tokens
    loaded = load_corpus(spec, data_dir=data_dir, limits=limits_of(limit))
    note(str(loaded.report))
    require_labels(loaded, split)
    report = classify(vaes, loaded, features, batch_size, seed, split=split)
    print(summary(report))
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    write_json(output / "report.json", report)
    with writing(output):
        picture = _picture(report, output)
    write_text(output / "report.md", report_markdown(report, picture))
    note(f"written to {output}: {', '.join(filter(None, ['report.md', 'report.json', picture]))}")


def _picture(report: dict[str, Any], output: Path) -> str | None:
    """Draw the confusion matrices; the name of the file, or None without matplotlib."""
    from ..evaluation.drawing import confusion_figure

    try:
        drawn = confusion_figure(report)
    except ModuleNotFoundError as error:
        note(f"confusion.png is left out: {error}")
        return None
    (output / "confusion.png").write_bytes(drawn)
    return "confusion.png"


@app.command(rich_help_panel=USE)
def score(
    checkpoint: Checkpoint,
    texts: Texts,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="A .csv, .parquet or .jsonl file; one row per text, in order."
        ),
    ],
    quick: Annotated[bool, typer.Option("--quick", help="The -ELBO alone: no importance samples.")] = False,
    nll_samples: Annotated[
        int | None, typer.Option(min=1, metavar="COUNT", help="Importance samples per text. Default: 500.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Add quantiles among these texts: train, validation or test (of the run's own corpus), or a file.",
        ),
    ] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    keep: Keep = None,
    no_keep: NoKeep = False,
    data_dir: DataDir = None,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Compute the NLL of each text, and how unusual the text is.

    Behind the columns of FILE: nll and bound (-ELBO) in nats, tokens (words and the end of the text), unknown words,
    bits_per_byte, with --reference a quantile, and a warning where a row must be read with care. exp(total NLL / total
    tokens) is the perplexity. docs/features.md explains the columns, and which of them find odd texts.

    The NLL is an importance-weighted estimate; for a language model it is exact.

    Large files, interruptions and several processes work as for encode.

    Example: seqvae score RUN reviews.csv -o nll.csv --reference validation
    """
    from ..evaluation.scoring import require_suffix, score_to_file

    require_suffix(output)
    require_file(output, texts, reference)
    if quick and nll_samples is not None:
        raise ValueError("--quick draws no importance samples: give either --quick or --nll-samples")
    state, own = processes(device)
    read = shared_rows(texts, checkpoint, text_column, label_column, state)
    columns = {"text_column": text_column, "label_column": label_column, "data_dir": data_dir, "state": state}
    among = reference_rows(reference, checkpoint, **columns) if reference else None
    totals = score_to_file(
        load_model(checkpoint, own),
        read.rows,
        output,
        nll_samples or 500,
        seed,
        batch_size,
        quick=quick,
        keep=read.kept(keep, no_keep) or (),
        reference=among,
        state=state,
        tell=note,
    )
    if state.is_main_process:
        note(f"{totals.texts:,} texts scored{_mean(totals, quick)}: {output}")


def _mean(totals: Any, quick: bool) -> str:
    """The mean over texts, and the perplexity; nothing of no texts."""
    if not totals.texts:
        return ""
    if quick:
        bound = math.exp(totals.bound / totals.tokens)
        return f" (-ELBO {totals.bound / totals.texts:.2f} nats a text, PPL at most {bound:.2f})"
    return f" (NLL {totals.nll / totals.texts:.2f} nats a text, PPL {totals.perplexity:.2f})"
