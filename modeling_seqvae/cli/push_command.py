"""Sharing on the Hugging Face hub: the command `push`, and `train --push-to`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import app, note
from .options import SHARE, LabelColumn, TextColumn

if TYPE_CHECKING:
    from ..training.callbacks import Callback


@app.command(rich_help_panel=SHARE)
def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    name: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="The model or Space on the hub; created if missing.")
    ],
    private: Annotated[
        bool, typer.Option("--private", help="If the model is created: only you or your organisation see it.")
    ] = False,
    branch: Annotated[
        str | None, typer.Option(metavar="NAME", help="Push to this branch; created from main if missing.")
    ] = None,
    pull_request: Annotated[
        bool, typer.Option("--pull-request", help="Open a pull request to the model's owners instead.")
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Replace what was pushed there before; other files are kept.")
    ] = False,
    no_code: Annotated[
        bool,
        typer.Option("--no-code", help="Leave out the code that loads the model without seqvae installed."),
    ] = False,
    sentence_features: Annotated[
        str | None,
        typer.Option(
            "--sentence-transformers",
            metavar="FEATURES",
            help="Add files for sentence-transformers, with these features: mean, mean_variance, centre or pooled.",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=0, metavar="COUNT", help="How many sampled sentences the card shows.")
    ] = 5,
    licence: Annotated[
        str | None,
        typer.Option("--license", metavar="ID", help="The licence of the weights: apache-2.0, ..."),
    ] = None,
    space: Annotated[
        bool, typer.Option("--space", help="Share a page to explore the model, as a Space (see seqvae explore).")
    ] = False,
    texts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --space: the texts on its map, a file as for encode; who sees the Space sees them.",
        ),
    ] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the files and print the card, without contacting the hub.")
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help="An access token. Default: HF_TOKEN, or the token of `hf auth login`."),
    ] = None,
) -> None:
    """Share a run's model on the Hugging Face hub.

    Makes one commit with the best checkpoint, a model card, and the recipe, history and evaluations of the run.

    Paths of this machine are removed. The card shows sentences of the model, which may repeat training text.

    Example: seqvae push RUN user/name --private
    """
    from ..hub.push import contents
    from ..hub.space import space_contents
    from ..sharing import push_files, require_destination

    if not space and (texts or text_column or label_column):
        raise ValueError("--texts, --text-column and --label-column are for --space: a model is shared without texts")
    if space and sentence_features:
        raise ValueError("--sentence-transformers is for a model, and --space shares a page: push twice")
    require_destination(name, branch, pull_request)
    if space:
        columns = {"text_column": text_column, "label_column": label_column}
        shared = space_contents(run, texts=texts, **columns, code=not no_code, licence=licence)
    else:
        shared = contents(
            run, name, code=not no_code, samples=samples, licence=licence, sentence_features=sentence_features
        )
    for told in shared.notes:
        note(told)
    if dry_run:
        for file, size in shared.sizes().items():
            print(f"{size:>12,}  {file}")
        print(f"{sum(shared.sizes().values()):>12,}  bytes in {len(shared.files)} files, not shared\n")
        print(bytes(shared.files["README.md"]).decode())
        return
    url = push_files(
        shared.files,
        name,
        commit_message=f"Share {shared.title}",
        private=private,
        revision=branch,
        create_pr=pull_request,
        update=update,
        token=token,
        space=space,
    )
    print(url)
    if space:
        return
    where = f"{name!r}, revision={branch!r}" if branch else repr(name)
    if not pull_request:
        note(f"next: SeqVAE.from_pretrained({where}) in Python")


@contextmanager
def pushing_the_best(name: str | None, private: bool, resume: bool) -> Iterator[Sequence["Callback"]]:
    """The callbacks that push every new best model; none without a name, and none on other processes than the first."""
    from ..data.launch import launched
    from ..hub.push import PushOnBest

    if name is None or not launched().is_main_process:
        yield ()
        return
    with PushOnBest(name, private=private, update=resume) as push_on_best:
        yield [push_on_best]
    if push_on_best.shared:
        note(f"shared as {name}: SeqVAE.from_pretrained({name!r}) in Python")
