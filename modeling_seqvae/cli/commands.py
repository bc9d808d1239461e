"""The commands: each a thin layer over the package.

Results go to standard output, progress and notes to standard error. Expected mistakes end in one sentence and exit code
1, wrong usage in 2, signals in 128 + signal.
"""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, note, require_device, require_file, require_unicode, require_writable
from .inputs import corpus_named, limits_of, load_model, read_texts, training_texts, write_report
from .options import (
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


@app.command()
def train(
    output_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The run's directory; receives best/, last/ and history.jsonl. Default: CORPUS-METHOD, here.",
        ),
    ] = None,
    method: Method = "unigram_pretraining",
    corpus: CorpusName = "demo",
    data_dir: DataDir = None,
    preset: Preset = None,
    limit: Limits = None,
    overrides: Overrides = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    encoder_from: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="Start with the encoder of a run, a checkpoint or a model on the hub, in place of the method's own "
            "pretraining.",
        ),
    ] = None,
    imports: Imports = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run, exactly.")] = False,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Show where the time of a few updates goes; writes a trace to DIR/profile."),
    ] = False,
    push_to: Annotated[
        str | None, typer.Option(metavar="USER/NAME", help="Share the model on the hub whenever it has become better.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="With --push-to: for you or your organisation.")] = False,
) -> None:
    """Train a model on text.

    Stop it with Ctrl-C whenever you like: the same command with --resume goes on where it was.

    Example: seqvae train --corpus reviews.csv
    """
    from ..evaluation.table import latent_verdict
    from ..training import run
    from ..training.recipe import resolve

    spec = corpus_named(corpus, text_column, label_column)
    recipe = resolve(method, spec, preset, overrides or (), limits_of(limit), encoder_from, imports or ())
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
        print(f"next: seqvae evaluate {output_dir}, or SeqVAE.from_pretrained({str(output_dir / 'best')!r}) in Python")


@app.command()
def evaluate(
    checkpoint: Checkpoint,
    corpus: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What to evaluate on, as for train, but all of a single file is the test set. Default: what the run "
            "was trained on.",
        ),
    ] = None,
    data_dir: DataDir = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="train, validation or test.")] = "test",
    limit: Limits = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    nll_samples: Annotated[int, typer.Option(min=1, metavar="COUNT", help="Importance samples a sentence.")] = 500,
    nll_sentences: Annotated[
        int | None,
        typer.Option(min=1, metavar="COUNT", help="Importance samples for the first sentences only: faster."),
    ] = None,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Let the encoder read each sentence's words in random order.")
    ] = False,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="no (float32) or bf16, faster where the machine has it. Default: what accelerate is configured for.",
        ),
    ] = None,
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
    from ..evaluation.table import caption, collapsed, table
    from ..text_batches import collapse_told
    from ..training.run import evaluate_checkpoint
    from ..training.run_directory import keep_evaluation

    require_device(device)
    if output:
        require_file(output)
    for option, column in (("--text-column", text_column), ("--label-column", label_column)):
        if corpus is None and column is not None:
            raise ValueError(f"{option} says how to read a file of yours: name it with --corpus")
    spec = None if corpus is None else corpus_named(corpus, text_column, label_column, [checkpoint], evaluated=True)
    report = evaluate_checkpoint(
        checkpoint,
        spec,
        data_dir,
        split,
        limits_of(limit),
        nll_samples,
        nll_sentences,
        shuffle,
        batch_size,
        seed,
        device,
        precision,
    )
    note(f"{report['corpus']} {report['split']}: {report['read']}")
    print(table([report], caption(report)))
    if collapsed(report):
        note(f"seqvae: warning: {checkpoint}: {collapse_told(report['kl'])}")
    if output:
        write_report(output, report)
    target = output or keep_evaluation(Path(checkpoint), report)
    if target:
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
    prior: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Where z is drawn from: model, its own p(z), or aggregate, a mixture of Gaussians that is fitted to "
            "the posteriors of the run's training texts.",
        ),
    ] = "model",
    texts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Fit the mixture to the posteriors of these texts; a file as for encode."),
    ] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    data_dir: DataDir = None,
    device: Device = None,
) -> None:
    """Write new sentences, one a line.

    Example: seqvae sample RUN --prior aggregate
    """
    if texts and prior != "aggregate":
        raise ValueError("--texts are what a mixture is fitted to: say --prior aggregate")
    vae = load_model(checkpoint, device)
    if prior == "aggregate" and (texts or vae.aggregate is None):
        listed = (
            read_texts(texts, checkpoint, text_column, label_column) if texts else training_texts(checkpoint, data_dir)
        )
        note(f"fitting a mixture to the posteriors of {len(listed):,} texts")
        vae.fit_aggregate(listed)
    for sentence in vae.sample(count, seed=seed, prior=prior, temperature=temperature, top_p=top_p):
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
    label_column: LabelColumn = None,
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
    listed = (
        read_texts(input_file, checkpoint, text_column, label_column) if input_file else require_unicode(texts or [])
    )
    for sentence in load_model(checkpoint, device).reconstruct(listed, num_beams=beams):
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
    for sentence in load_model(checkpoint, device).interpolate(start, end, steps, path=path):
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
    """See on a small corpus what a latent holds.

    Trains a model without pooling, one with it and one with unigram pretraining on the embedded corpus, in minutes on
    a CPU, and compares them.
    """
    from ..reproduce.demonstration import run_demo

    require_writable(output_dir)
    run_demo(output_dir, seed, language_model, overrides or (), limits_of(limit))


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
    from ..reproduce.results import results_markdown

    print(results_markdown(directory))
