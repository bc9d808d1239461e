"""The directory of a run, before anything is written into it."""

from pathlib import Path

from ..loading import RECIPE
from .recipe import Recipe

CHECKPOINTS = ("best", "last")


def holds_run(directory: Path, recipe: Recipe, resume: bool) -> bool:
    """Whether a run of this recipe is there to be continued.

    Raises ValueError where another run is, or one that is not to be resumed, or checkpoints of who knows what.
    """
    if not (directory / RECIPE).exists():
        if any((directory / name).exists() for name in CHECKPOINTS):
            raise ValueError(f"{directory} holds best/ or last/ but no {RECIPE}: choose another directory")
        return False
    if not resume:
        raise ValueError(
            f"{directory} holds a run: continue it with --resume, or choose another directory with --output-dir"
        )
    there = Recipe.load(directory / RECIPE)
    changed = recipe.differences(there, wherever=True)  # its state knows the texts
    if changed:
        others = "" if recipe.may_be_of(there.texts) else ", and of other texts"
        raise ValueError(f"{directory} holds a run of another recipe{others}: {'; '.join(changed)}")
    return True
