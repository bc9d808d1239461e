"""The commands: each a thin layer over the package.

Results go to standard output, progress and notes to standard error. Expected mistakes end in one sentence and exit code
1, wrong usage in 2, signals in 128 + signal.
"""

import json
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from .checks import Commands, note, require_device, require_file, require_unicode, require_writable
from .options import (
    BatchSize,
    Checkpoint,
    CorpusName,
    DataDir,
    Device,
    LabelColumn,
    Limits,
    Method,
    Overrides,
    Preset,
    Seed,
    TextColumn,
)

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"seqvae {__version__}")
        raise typer.Exit


@app.callback()
def _group(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error arose.")] = False,
) -> None:
    """Sequence VAEs on text with pooled encoders: train, measure, sample, encode."""


@app.command()
def train(
    output_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="The run's directory; receives best/, last/ and history.jsonl.")
    ],
    method: Method = "max_pool",
    corpus: CorpusName = "demo",
    data_dir: DataDir = None,
    preset: Preset = None,
    limit: Limits = None,
    overrides: Overrides = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run, exactly.")] = False,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Show where the time of a few updates goes; writes a trace to DIR/profile."),
    ] = False,
) -> None:
    """Train a model on text.

    Stop it with Ctrl-C whenever you like: the same command with --resume goes on where it was.

    Example: seqvae train --corpus reviews.csv --output-dir RUN
    """
    from ..training import run
    from ..training.recipe import resolve

    recipe = resolve(method, _corpus(corpus, text_column, label_column), preset, overrides or (), _limits(limit))
    require_writable(output_dir)
    trainer = run.train(recipe, output_dir, data_dir, resume, profile=profile)
    if trainer.show:
        best = min(trainer.history, key=lambda record: record["bound"])
        print(f"\nbest epoch {best['epoch']}: -ELBO {best['bound']:.2f} nats per sentence, in {output_dir / 'best'}")
        print(f"next: seqvae evaluate {output_dir}, or SeqVAE.from_pretrained({str(output_dir / 'best')!r}) in Python")


@app.command()
def evaluate(
    checkpoint: Checkpoint,
    corpus: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to evaluate on, as for train. Default: what the run was trained on."),
    ] = None,
    data_dir: DataDir = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="train, validation or test.")] = "test",
    limit: Limits = None,
    text_column: TextColumn = None,
    nll_samples: Annotated[int, typer.Option(min=1, metavar="COUNT", help="Importance samples a sentence.")] = 500,
    nll_sentences: Annotated[
        int | None,
        typer.Option(min=1, metavar="COUNT", help="Estimate the NLL on the first sentences only; the rest on all."),
    ] = None,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Let the encoder read each sentence's words in random order.")
    ] = False,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The JSON file. Default: evaluation.json in the run's directory, with a longer name unless it is "
            "of the whole test set of the run's own corpus.",
        ),
    ] = None,
    device: Device = None,
) -> None:
    """Measure a model: NLL, -ELBO, KL, active units and more.

    Prints a table and writes the same figures as JSON. docs/metrics.md says what each means.
    """
    from ..evaluation.table import caption, table
    from ..training.run import evaluate_checkpoint, evaluation_file

    require_device(device)
    if output:
        require_file(output)
    if corpus is None and text_column is not None:
        raise ValueError("--text-column says how to read a table: name it with --corpus")
    spec = None if corpus is None else _corpus(corpus, text_column, None)
    report = evaluate_checkpoint(
        checkpoint, spec, data_dir, split, _limits(limit), nll_samples, nll_sentences, shuffle, batch_size, seed, device
    )
    print(table([report], caption(report)))
    target = output or evaluation_file(Path(checkpoint), report)
    if target:
        _write_json(target, report)
        note(f"written to {target}")
    else:
        note("not written: only a run's directory keeps its evaluations; give --output FILE.json")


@app.command()
def sample(
    checkpoint: Checkpoint,
    count: Annotated[int, typer.Option("-n", "--count", min=1, metavar="COUNT", help="How many sentences.")] = 5,
    temperature: Annotated[
        float, typer.Option(min=0.01, metavar="NUMBER", help="Below 1, likelier words; above, rarer ones.")
    ] = 1.0,
    top_p: Annotated[
        float,
        typer.Option(min=0.01, max=1.0, metavar="SHARE", help="Only the likeliest words that make up this share."),
    ] = 1.0,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="NUMBER", help="The same seed writes the same sentences.")
    ] = None,
    device: Device = None,
) -> None:
    """Write new sentences, one a line."""
    for sentence in _load(checkpoint, device).sample(count, seed=seed, temperature=temperature, top_p=top_p):
        print(sentence)


@app.command()
def reconstruct(
    checkpoint: Checkpoint,
    texts: Annotated[list[str] | None, typer.Argument(metavar="SENTENCE", help="Each in quotes.")] = None,
    input_file: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="FILE", help="Read them from here, as encode does; - is standard input."),
    ] = None,
    text_column: TextColumn = None,
    beams: Annotated[
        int, typer.Option(min=1, metavar="COUNT", help="Beam search with so many beams; 1 takes the likeliest word.")
    ] = 1,
    device: Device = None,
) -> None:
    """Encode sentences and write them again, one a line.

    Example: seqvae reconstruct RUN "the food was great ."
    """
    if bool(texts) == bool(input_file):
        raise typer.BadParameter("give either sentences or --input FILE")
    listed = _read_texts(input_file, text_column) if input_file else require_unicode(texts or [])
    for sentence in _load(checkpoint, device).reconstruct(listed, num_beams=beams):
        print(sentence)


@app.command()
def interpolate(
    checkpoint: Checkpoint,
    start: Annotated[str, typer.Argument(metavar="START", help="The first sentence, in quotes.")],
    end: Annotated[str, typer.Argument(metavar="END", help="The last sentence, in quotes.")],
    steps: Annotated[int, typer.Option(min=2, metavar="COUNT", help="Sentences to write, both ends included.")] = 7,
    path: Annotated[
        str, typer.Option(metavar="NAME", help="linear, on a line, or spherical, on an arc around the origin.")
    ] = "linear",
    device: Device = None,
) -> None:
    """Write sentences on the way from one to another.

    They are written from points on a path through the latent space; the ends are reconstructions.
    """
    require_unicode([start, end])
    for sentence in _load(checkpoint, device).interpolate(start, end, steps, path=path):
        print(sentence)


@app.command()
def demo(
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Where runs, figure and results go.")] = Path(
        "demo-run"
    ),
    language_model: Annotated[bool, typer.Option("--lm", help="Train an LSTM language model as well.")] = False,
    seed: Seed = 0,
    limit: Limits = None,
    overrides: Overrides = None,
) -> None:
    """See on a small corpus whether pooling prevents collapse.

    Trains a model with and one without pooling on the embedded corpus, in minutes on a CPU, and compares them.
    """
    from ..paper.demo import run_demo

    require_writable(output_dir)
    run_demo(output_dir, seed, language_model, overrides or (), _limits(limit))


@app.command()
def results(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder of results: CORPUS/METHOD/history.jsonl, recipe.yaml and evaluation.json."
        ),
    ],
) -> None:
    """Print the results of finished runs as Markdown tables."""
    from ..paper.tables import results_markdown

    print(results_markdown(directory))


def _corpus(name: str, text_column: str | None, label_column: str | None) -> Any:
    """A corpus's name or YAML as it is; a file or folder of the user's own as a spec."""
    from ..data.corpora import spec_from_path
    from ..training.recipe import available

    path = Path(name)
    own = name not in available("corpora") and path.suffix not in (".yaml", ".yml") and (path.suffix or path.exists())
    if own:
        return spec_from_path(path, text_column, label_column)
    if text_column or label_column:
        raise ValueError(f"corpus {name} says itself which columns it has; --text-column is for a table of yours")
    return name


def _limits(limits: list[str] | None) -> dict[str, int]:
    from ..data.corpora import SPLITS

    parsed = {}
    for limit in limits or ():
        split, _, count = limit.partition("=")
        if split not in SPLITS or not count.isdecimal() or int(count) == 0:
            raise ValueError(f"--limit {limit!r} is not a count for one of {', '.join(SPLITS)}, such as train=10000")
        parsed[split] = int(count)
    return parsed


def _read_texts(path: Path, text_column: str | None) -> list[str]:
    """The texts of a file, or the lines of standard input where it is `-`."""
    from ..data.readers import Wanted, read_documents
    from ..training.report import quiet_libraries

    if str(path) == "-":
        piped = TextIOWrapper(sys.stdin.buffer, "utf-8", "surrogateescape")
        listed = [line.rstrip("\n") for line in piped]
    elif path.is_file():
        with quiet_libraries():
            listed = [text or "" for text in read_documents(path, Wanted(text_column=text_column)).rows["text"]]
    else:
        raise FileNotFoundError(f"there is no file {path}")
    empty = sum(not text.strip() for text in listed)
    if empty:
        note(f"{empty:,} of {len(listed):,} texts are empty; each is read as a sentence without words")
    return require_unicode(listed)


def _load(checkpoint: str, device: str | None) -> Any:
    """The model of a run (its best/), of a checkpoint's directory, or of a name on the hub."""
    import torch

    from ..text import SeqVAE
    from ..training.run import best_checkpoint

    require_device(device)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return SeqVAE.from_pretrained(best_checkpoint(checkpoint), device=device)


def _write_json(path: Path, report: dict[str, Any]) -> None:
    from ..training.checkpoint import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(report, indent=2) + "\n")
