"""The command `reproduce`, which makes the paper's tables and figures."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, imported, require_writable
from .inputs import corpus_named, limits_of
from .options import PAPER, CorpusName, DataDir, Imports, LabelColumn, Limits, Overrides, TextColumn


@app.command(rich_help_panel=PAPER)
def reproduce(
    ctx: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="table1 to table5, figure2, figure3, figure4; beyond the paper table6 (what the latent holds, and "
            "what it costs) and positions (at which words z helps); or one of your own, with --import.",
        ),
    ],
    output_dir: Annotated[
        Path,
        typer.Option(metavar="DIR", help="The folder for the runs, and for CORPUS/TARGET.md, .json and .png."),
    ],
    corpus: CorpusName = "demo",
    data_dir: DataDir = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Sizes and schedule: auto, paper, small, fast, demo, tiny (to try a command; it learns nothing), or "
            "your own YAML file. Default: the corpus's own preset; auto for your own file.",
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="The rows, as in --methods seqvae,max_pool. Default: those of the target."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="COUNT", help="Train everything with seeds 0, 1, ...: mean ± deviation.")
    ] = 1,
    limit: Limits = None,
    overrides: Overrides = None,
    nll_sentences: Annotated[
        int | None, typer.Option(min=1, metavar="COUNT", help="Importance samples for the first test sentences only.")
    ] = None,
    transfer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="table5: the other corpus on which a transferred encoder is trained. Default: yelp_sentiment for "
            "yelp_stars, yahoo for yelp, else none.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, metavar="COUNT", help="Trainings or measurements to run at once; they share cores.")
    ] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the missing steps, and stop.")] = False,
    print_commands: Annotated[
        bool,
        typer.Option(
            "--print-commands",
            help="Print a command line for each missing step, for a cluster's scheduler or GNU parallel, and stop.",
        ),
    ] = False,
    step: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Run this step alone, named as in the last column of --dry-run; write no table."
        ),
    ] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    imports: Imports = None,
) -> None:
    """Make a table or figure of the paper.

    Trains the models that are missing, measures them, and writes Markdown, JSON and PNG.

    You can stop it with Ctrl-C at any time: the same command continues. Finished runs are skipped, and targets share
    runs.

    Example: seqvae reproduce table1 --corpus demo --preset tiny --output-dir OUT
    """
    from ..reproduce import runner
    from ..reproduce.request import Request, preset_defaults

    if dry_run + print_commands + (step is not None) > 1:
        raise typer.BadParameter("give one of --dry-run, --print-commands and --step")
    chosen = tuple(name.strip() for name in (methods or "").split(",") if name.strip())
    if methods is not None and not chosen:
        raise typer.BadParameter("--methods names none: name some, as in seqvae,max_pool, or leave it out")
    defaults = preset_defaults(preset)
    require_writable(output_dir)
    request = Request(
        corpus=corpus_named(corpus, text_column, label_column),
        preset=preset,
        methods=chosen,
        seeds=seeds,
        limits=defaults.get("limits", {}) | limits_of(limit),
        overrides=tuple(overrides or ()),
        data_dir=data_dir,
        nll_sentences=nll_sentences or defaults.get("nll_sentences"),
        transfer=transfer,
        imports=tuple(imported(ctx, imports)),
    )
    if dry_run:
        runner.show_missing(target, request, output_dir)
    elif print_commands:
        runner.print_commands(target, request, output_dir)
    elif step is not None:
        runner.run_step(target, request, output_dir, step)
    else:
        runner.reproduce(target, request, output_dir, jobs)
