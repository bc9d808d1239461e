"""Figures 3 and 4: dispersion and KL over training, several methods in one picture."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..evaluation.table import numbers
from ..training.recipe import Recipe
from .encoders import encoder_runs, seed_by_seed
from .plots import draw_curves
from .reporting import Report, Table, spread
from .request import Request
from .rows import corpus_of, over_seeds, title_of
from .steps import Step, Training

COLUMNS = {
    "title": ("model", "{}"),
    "best_epoch": ("best\nepoch", "{:.0f}"),
    "best_kl": ("KL\nthere", "{:z.2f}"),
    "best_cosine": ("cosine\nthere", "{:z.2f}"),
    "epochs": ("last\nepoch", "{:.0f}"),
    "kl": ("KL\nthere", "{:z.2f}"),
    "cosine": ("cosine\nthere", "{:z.2f}"),
}


class Curves:
    """KL and pairwise cosine similarity on the validation set, epoch by epoch."""

    draws = True

    def __init__(self, name: str, summary: str):
        self.name = name
        self.summary = summary

    def steps(self, request: Request) -> Sequence[Step]:
        return seed_by_seed(encoder_runs(request, self.name))

    def report(self, request: Request, output_dir: Path) -> Report:
        rows, curves = [], {}
        for trainings in encoder_runs(request, self.name):
            title, histories = _histories(trainings, output_dir)
            ends = [_ends(trainings[0].recipe, history) for history in histories]
            figures = {key: spread([end[key] for end in ends]) for key in COLUMNS if key != "title"}
            rows.append({"method": trainings[0].recipe.method, "title": title, **figures})
            if histories:
                curves[title] = histories
        what = f"{corpus_of(request)}, validation set"
        caption = (
            f"{self.name.capitalize()[:-1]} {self.name[-1]}: {what}; KL in nats per sentence{over_seeds(request)}."
        )
        thin = f"; mean and each of {request.seeds} seeds" if request.seeds > 1 else ""
        picture = partial(draw_curves, curves, caption=what + thin) if curves else None
        return Report([Table(caption, COLUMNS, rows)], picture=picture)


def _histories(trainings: Sequence[Training], output_dir: Path) -> tuple[str, list[list[dict[str, Any]]]]:
    """A row's title and the histories of the seeds that came to their end; where none did, of those that began."""
    begun = [(training, history) for training in trainings if (history := training.read(output_dir))]
    ended = [history for training, history in begun if training.ended(output_dir)]
    if ended or not begun:
        return title_of(trainings, len(ended)), ended
    epochs = numbers(len(history) for _, history in begun)
    return f"{trainings[0].recipe.title} (stopped after epoch {epochs})", [history for _, history in begun]


def _ends(recipe: Recipe, history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the best and the last epoch gave."""
    best, last = recipe.best_of(history), history[-1]
    found = {"best_epoch": best["epoch"], "epochs": last["epoch"]}
    return found | {f"{prefix}{key}": record[key] for prefix, record in (("best_", best), ("", last)) for key in KEYS}


KEYS = ("kl", "cosine")
