"""The `seqvae` command: train, evaluate, encode, sample, reconstruct, interpolate; and the demonstration.

Each command is a thin layer over the package. Expected mistakes end in one sentence and exit code 1, wrong usage in 2,
signals in 128 + signal. Heavy imports happen inside the commands, so that `--help` is immediate.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Checkpoint = Annotated[str, typer.Argument(help="A run's directory, a checkpoint's directory, or a name on the hub.")]
Method = Annotated[str, typer.Option(help="What to train: a name in configuration/methods, or your own YAML file.")]
CorpusName = Annotated[
    str,
    typer.Option(
        "--corpus", help="A name in configuration/corpora, your own YAML, or a text, CSV, JSON or Parquet file."
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="The folder with the corpora's files, such as DIR/ptb/ptb.train.txt.", show_default=False),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--training", help="Sizes and schedule: paper, small, demo, or your own YAML. Default: the corpus's own."
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change one field: training.epochs=5, model.latent_size=16.")
]
Limits = Annotated[list[str] | None, typer.Option("--limit", help="Only the first documents of a split: train=10000.")]
TextColumn = Annotated[str | None, typer.Option(help="The column that holds the text, in a table of yours.")]
LabelColumn = Annotated[str | None, typer.Option(help="The column that holds the label, in a table of yours.")]
Seed = Annotated[int, typer.Option(help="The seed of everything random.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ... Default: a GPU if there is one.")]


@app.callback()
def _group() -> None:
    """Sequence VAEs on text that do not collapse: train, measure, sample from and encode with them."""


@app.command()
def train(
    output_dir: Annotated[Path, typer.Option(help="The run's directory; receives best/, last/ and history.jsonl.")],
    method: Method = "max_pool",
    corpus: CorpusName = "demo",
    data_dir: DataDir = None,
    preset: Preset = None,
    limit: Limits = None,
    overrides: Overrides = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run, exactly.")] = False,
) -> None:
    """Train a model by a recipe. Stop it with Ctrl-C whenever you like: --resume goes on where it was.

    Example: seqvae train --method max_pool --corpus ptb --data-dir DIR --training small --output-dir RUN
    """
    from .training import run
    from .training.recipe import resolve

    recipe = resolve(method, _corpus(corpus, text_column, label_column), preset, overrides or (), _limits(limit))
    trainer = run.train(recipe, output_dir, data_dir, resume)
    if trainer.show:
        best = min(trainer.history, key=lambda record: record["bound"])
        print(
            f"\nbest epoch {best['epoch']}: -ELBO {best['bound']:.2f} nats per sentence, in {output_dir / 'best'}"
        )
        print(f"next: seqvae evaluate {output_dir}, or SeqVAE.from_pretrained({str(output_dir / 'best')!r}) in Python")


@app.command()
def evaluate(
    checkpoint: Checkpoint,
    corpus: Annotated[
        str | None, typer.Option(help="The corpus to evaluate on. Default: the one the run was trained on.")
    ] = None,
    data_dir: DataDir = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    limit: Limits = None,
    text_column: TextColumn = None,
    nll_samples: Annotated[int, typer.Option(min=1, help="Importance samples a sentence.")] = 500,
    nll_sentences: Annotated[
        int | None, typer.Option(min=1, help="Estimate the NLL on the first N sentences only; the rest on all.")
    ] = None,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Let the encoder read each sentence's words shuffled.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    seed: Seed = 0,
    output: Annotated[Path | None, typer.Option(help="The JSON file. Default: evaluation.json in the run.")] = None,
    device: Device = None,
) -> None:
    """Print every figure of a model on a corpus, and write them as JSON. docs/metrics.md says what each means."""
    from .evaluation.table import table
    from .training.run import evaluate_checkpoint

    spec = None if corpus is None else _corpus(corpus, text_column, None)
    report = evaluate_checkpoint(
        checkpoint, spec, data_dir, split, _limits(limit), nll_samples, nll_sentences, shuffle, batch_size, seed, device
    )
    print(table([report]))
    target = output or (Path(checkpoint) / "evaluation.json" if Path(checkpoint).is_dir() else None)
    if target:
        _write_json(target, report)
        print(f"written to {target}")


@app.command()
def encode(
    checkpoint: Checkpoint,
    texts: Annotated[
        Path, typer.Argument(help="A .txt file with one text a line, or a .csv, .tsv, .jsonl or .parquet table.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="features.npy, .csv or .parquet, one row a text, in order.")
    ],
    features: Annotated[str, typer.Option(help="mean, mean_variance or pooled.")] = "mean_variance",
    text_column: TextColumn = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    device: Device = None,
) -> None:
    """Turn texts into features for a classifier: posterior means and variances."""
    from .data.readers import Wanted, read_documents
    from .evaluation.features import write_features

    if not texts.is_file():
        raise FileNotFoundError(f"there is no file {texts}")
    listed = read_documents(texts, Wanted(text_column=text_column)).rows["text"]
    vae = _load(checkpoint, device)
    write_features(vae.encode(listed, features, batch_size), vae.feature_names(features), output)
    print(f"{len(listed):,} texts encoded: {output}")


@app.command()
def sample(
    checkpoint: Checkpoint,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many sentences.")] = 5,
    temperature: Annotated[float, typer.Option(min=0.01, help="Below 1: likelier words.")] = 1.0,
    top_p: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Only the likeliest words that make up this mass.")
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Reproduce the same sentences.")] = None,
    device: Device = None,
) -> None:
    """Write sentences from the prior."""
    for sentence in _load(checkpoint, device).sample(count, seed=seed, temperature=temperature, top_p=top_p):
        print(sentence)


@app.command()
def reconstruct(
    checkpoint: Checkpoint,
    texts: Annotated[list[str], typer.Argument(help="Sentences, each in quotes.")],
    beams: Annotated[int, typer.Option(min=1, help="Beam search with so many beams; 1 is greedy.")] = 1,
    device: Device = None,
) -> None:
    """Encode sentences and write them again from their latents."""
    vae = _load(checkpoint, device)
    for text, again in zip(texts, vae.reconstruct(texts, num_beams=beams), strict=True):
        print(f"{text}\n  -> {again}")


@app.command()
def interpolate(
    checkpoint: Checkpoint,
    start: Annotated[str, typer.Argument(help="The first sentence.")],
    end: Annotated[str, typer.Argument(help="The last sentence.")],
    steps: Annotated[int, typer.Option(min=2, help="Sentences to write, both ends included.")] = 7,
    device: Device = None,
) -> None:
    """Write the sentences on the way from one to another through the latent space."""
    for sentence in _load(checkpoint, device).interpolate(start, end, steps):
        print(sentence)


@app.command()
def demo(
    output_dir: Annotated[Path, typer.Option(help="Where runs, figure and results go.")] = Path("demo-run"),
    language_model: Annotated[bool, typer.Option("--lm", help="Train an LSTM language model as well.")] = False,
    seed: Seed = 0,
    overrides: Overrides = None,
) -> None:
    """See posterior collapse, and pooling prevent it or not: two models on the embedded corpus, in minutes on a CPU."""
    from .paper.demo import run_demo

    run_demo(output_dir, seed, language_model, overrides or ())


@app.command()
def results(
    directory: Annotated[
        Path, typer.Argument(help="A folder of results: CORPUS/METHOD/evaluation.json and history.jsonl.")
    ],
) -> None:
    """Print committed results as Markdown tables, without running anything."""
    from .paper.tables import results_markdown

    print(results_markdown(directory))


def _corpus(name: str, text_column: str | None, label_column: str | None) -> Any:
    """A corpus's name or YAML as it is; a file or folder of the user's own as a spec."""
    from .data.corpora import spec_from_path

    path = Path(name)
    if path.suffix in (".yaml", ".yml") or not (path.is_dir() or path.suffix):
        return name
    return spec_from_path(path, text_column, label_column)


def _limits(limits: list[str] | None) -> dict[str, int]:
    parsed = {}
    for limit in limits or ():
        split, _, count = limit.partition("=")
        if not count.isdigit():
            raise ValueError(f"--limit {limit!r} is not of the form split=count, such as train=10000")
        parsed[split] = int(count)
    return parsed


def _load(checkpoint: str, device: str | None) -> Any:
    """The model of a run (its best/), of a checkpoint's directory, or of a name on the hub."""
    import torch

    from .text import SeqVAE

    best = Path(checkpoint) / "best"
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return SeqVAE.from_pretrained(str(best) if best.is_dir() else checkpoint, device=device)


def _write_json(path: Path, report: dict[str, Any]) -> None:
    import json

    from .training.checkpoint import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(report, indent=2) + "\n")


def main() -> None:
    """Run a command; expected mistakes are a sentence on standard error and exit code 1."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        app()
    except (ValueError, TypeError, OSError, FloatingPointError, RuntimeError) as error:
        if "--debug" in sys.argv:
            raise
        print(f"seqvae: {error}", file=sys.stderr)
        raise SystemExit(1) from None
