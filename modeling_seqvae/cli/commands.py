"""The commands that train, measure and write sentences, and the demonstration: thin layers over the package.

Results go to standard output, progress and notes to standard error. The exit code is 1 after an error, 2 after wrong
usage, and 128 + the signal's number after a signal.
"""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from .app import app, imported, note, require_device, require_file, require_unicode, require_writable
from .inputs import corpus_named, limits_of, load_model, read_texts, refuse_columns, training_texts, write_report
from .options import (
    PAPER,
    TRAIN,
    USE,
    BatchSize,
    Checkpoint,
    CorpusName,
    DataDir,
    Device,
    Imports,
    LabelColumn,
    Limits,
    Method,
    Overrides,
    Preset,
    Seed,
    TextColumn,
)
from .push_command import pushing_the_best


@app.command(rich_help_panel=TRAIN)
def train(
    ctx: typer.Context,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The run's folder: best/, last/ and history.jsonl are written there. Default: CORPUS-METHOD.",
        ),
    ] = None,
    method: Method = "unigram_pretraining",
    corpus: CorpusName = "demo",
    data_dir: DataDir = None,
    preset: Preset = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The tokens: words, bpe (byte-level pieces of words, trained from the texts), or the tokenizer of a "
            "run, a folder or a model on the hub. Default: the corpus's own, words. --set corpus.vocabulary_size=8000 "
            "limits their number.",
        ),
    ] = None,
    limit: Limits = None,
    overrides: Overrides = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    encoder_from: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="Start with the encoder of this run, checkpoint or model on the hub, instead of the method's own "
            "pretraining.",
        ),
    ] = None,
    imports: Imports = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a stopped run as if it had not stopped.")] = False,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Measure what takes time in a few updates; writes a trace to DIR/profile."),
    ] = False,
    push_to: Annotated[
        str | None, typer.Option(metavar="USER/NAME", help="Push each new best model to the hub.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="With --push-to: make the model private.")] = False,
) -> None:
    """Train a model on text.

    You can stop it with Ctrl-C at any time: the same command with --resume continues the run.

    Example: seqvae train --corpus reviews.csv
    """
    from ..evaluation.table import latent_verdict
    from ..training import run
    from ..training.recipe import resolve

    if private and push_to is None:
        raise ValueError("--private needs --push-to: without it nothing is shared")
    spec = corpus_named(corpus, text_column, label_column)
    changes = [*(overrides or ()), *([f"corpus.tokenizer={json.dumps(tokenizer)}"] if tokenizer is not None else [])]
    modules = imported(ctx, imports)
    recipe = resolve(method, spec, preset, changes, limits_of(limit), encoder_from, modules)
    output_dir = output_dir or Path(f"{recipe.corpus.name.replace('/', '_')}-{recipe.method}")
    require_writable(output_dir)
    with pushing_the_best(push_to, private, resume) as callbacks:
        trainer = run.train(recipe, output_dir, data_dir, resume, profile=profile, callbacks=callbacks)
    if trainer.show:
        best = trainer.recipe.best_of(trainer.history)
        print(f"\nbest epoch {best['epoch']}: -ELBO {best['bound']:.2f} nats per sentence, in {output_dir / 'best'}")
        verdict = latent_verdict(best, trainer.recipe.sizes.latent_size)
        if verdict:
            print(verdict)
        command = f"seqvae evaluate {shlex.quote(str(output_dir))}"
        print(f"next: {command}, or SeqVAE.from_pretrained({str(output_dir / 'best')!r}) in Python")


@app.command(rich_help_panel=TRAIN)
def evaluate(
    checkpoint: Checkpoint,
    corpus: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The texts to evaluate on, as for train; a single file is the test set. Default: the corpus that the "
            "run was trained on.",
        ),
    ] = None,
    data_dir: DataDir = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="train, validation or test.")] = "test",
    limit: Limits = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    nll_samples: Annotated[int, typer.Option(min=1, metavar="COUNT", help="Importance samples per sentence.")] = 500,
    nll_sentences: Annotated[
        int | None,
        typer.Option(min=1, metavar="COUNT", help="Importance samples for the first COUNT sentences only: faster."),
    ] = None,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Shuffle the words that the encoder reads in each sentence.")
    ] = False,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="no (float32) or bf16 (faster on machines that support it). Default: accelerate's setting.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The JSON file. Default: evaluation.json in the run's folder, or a longer name for other texts or "
            "settings than the defaults.",
        ),
    ] = None,
    device: Device = None,
) -> None:
    """Measure a model: NLL, -ELBO, KL, active units and more.

    Prints a table and writes the same figures to a JSON file. docs/metrics.md explains each figure.
    """
    from ..evaluation.table import caption, table, warning_of
    from ..training.checkpoint import evaluate_checkpoint, run_of
    from ..training.evaluations import keep_evaluation
    from ..training.run_directory import RECIPE

    require_device(device)
    run = run_of(checkpoint)
    if output:
        require_file(output, corpus)
    elif (run / RECIPE).is_file():
        require_writable(run)
    for option, column in (("--text-column", text_column), ("--label-column", label_column)):
        if corpus is None and column is not None:
            raise ValueError(f"{option} is for your own file: name the file with --corpus")
    spec = None if corpus is None else corpus_named(corpus, text_column, label_column, [checkpoint], evaluated=True)
    report = evaluate_checkpoint(
        checkpoint,
        spec,
        data_dir,
        split=split,
        limits=limits_of(limit),
        nll_samples=nll_samples,
        nll_sentences=nll_sentences,
        shuffle_words=shuffle,
        batch_size=batch_size,
        seed=seed,
        device=device,
        precision=precision,
    )
    note(f"{report['corpus']} {report['split']}: {report['read']}")
    print(table([report], caption(report)))
    warning = warning_of(report)
    if warning:
        note(f"seqvae: warning: {checkpoint}: {warning}")
    if output:
        write_report(output, report)
    target = output or keep_evaluation(run, report)
    if target:
        note(f"written to {target}")
    else:
        note(f"no file written: {checkpoint} is not a run's folder. To keep the figures, give --output FILE.json")


@app.command(rich_help_panel=USE)
def sample(
    checkpoint: Checkpoint,
    count: Annotated[int, typer.Option("-n", "--count", min=1, metavar="COUNT", help="How many sentences.")] = 5,
    temperature: Annotated[
        float, typer.Option(min=0.01, metavar="NUMBER", help="Below 1: more likely words; above 1: rarer words.")
    ] = 1.0,
    top_p: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=1.0,
            metavar="SHARE",
            help="Use only the most likely words, up to this total probability.",
        ),
    ] = 1.0,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="NUMBER", help="The same seed gives the same sentences."),
    ] = None,
    prior: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The distribution of z: model (its prior p(z)) or aggregate (a mixture of Gaussians, fitted to the "
            "posteriors of the run's training texts).",
        ),
    ] = "model",
    texts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With --prior aggregate: fit the mixture to these texts; a file as for encode."
        ),
    ] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    data_dir: DataDir = None,
    device: Device = None,
) -> None:
    """Write new sentences, from random latents.

    Example: seqvae sample RUN --prior aggregate
    """
    if texts and prior != "aggregate":
        raise ValueError("--texts needs --prior aggregate: the mixture is fitted to these texts")
    if data_dir and (texts or prior != "aggregate"):
        raise ValueError("--data-dir needs --prior aggregate without --texts: the mixture is fitted to the run's texts")
    if not texts:
        refuse_columns("--texts FILE", text_column, label_column)
    vae = load_model(checkpoint, device)
    if prior == "aggregate" and (texts or vae.aggregate is None):
        listed = (
            read_texts(texts, checkpoint, text_column, label_column) if texts else training_texts(checkpoint, data_dir)
        )
        note(f"fitting a mixture to the posteriors of {len(listed):,} texts")
        vae.fit_aggregate(listed)
    for sentence in vae.sample(count, seed=seed, prior=prior, temperature=temperature, top_p=top_p):
        print(sentence)


@app.command(rich_help_panel=USE)
def reconstruct(
    checkpoint: Checkpoint,
    texts: Annotated[list[str] | None, typer.Argument(metavar="SENTENCE", help="Each in quotes.")] = None,
    input_file: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="FILE", help="A file of sentences, as for encode; - is standard input."),
    ] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    beams: Annotated[
        int, typer.Option(min=1, metavar="COUNT", help="The number of beams; 1 takes the most likely word each time.")
    ] = 1,
    device: Device = None,
) -> None:
    """Encode sentences and decode them again.

    Example: seqvae reconstruct RUN "the food was great ."
    """
    if bool(texts) == bool(input_file):
        raise typer.BadParameter("give either sentences or --input FILE")
    if not input_file:
        refuse_columns("--input FILE", text_column, label_column)
    listed = (
        read_texts(input_file, checkpoint, text_column, label_column) if input_file else require_unicode(texts or [])
    )
    for sentence in load_model(checkpoint, device).reconstruct(listed, num_beams=beams):
        print(sentence)


@app.command(rich_help_panel=USE)
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
    """Write sentences between two sentences.

    They are decoded from points on a path in latent space between the two; the first and last are reconstructions.
    """
    require_unicode([start, end])
    for sentence in load_model(checkpoint, device).interpolate(start, end, steps, path=path):
        print(sentence)


@app.command(rich_help_panel=PAPER)
def demo(
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="The folder for runs, figure and results.")] = Path(
        "demo-run"
    ),
    language_model: Annotated[bool, typer.Option("--lm", help="Also train an LSTM language model.")] = False,
    seed: Seed = 0,
    limit: Limits = None,
    overrides: Overrides = None,
) -> None:
    """Train three small models in minutes and compare them.

    On the demo corpus, on a CPU: a model without pooling, one with pooling, and one with unigram pretraining.
    """
    from ..reproduce.demonstration import run_demo

    require_writable(output_dir)
    run_demo(output_dir, seed, language_model, overrides or (), limits_of(limit))


@app.command(rich_help_panel=TRAIN)
def results(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder of results: CORPUS/METHOD/history.jsonl, recipe.yaml and evaluation.json."
        ),
    ],
) -> None:
    """Print the results of finished runs as Markdown tables."""
    from ..reproduce.results import results_markdown

    print(results_markdown(directory))
