"""The directory of a run, before anything is written into it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout
from huggingface_hub.utils import WeakFileLock

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
        raise ValueError(f"{directory} holds a run: continue it with --resume, or choose another directory")
    changed = recipe.differences(Recipe.load(directory / RECIPE), wherever=True)  # its state knows the texts
    if changed:
        raise ValueError(f"{directory} holds a run of another recipe: {'; '.join(changed)}")
    return True


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Keeps a run's directory, which is made if need be, from others that would train in it.

    Raises RuntimeError that names it where one does, such as the same job that a scheduler has started twice.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with WeakFileLock(directory / ".lock", timeout=1):
            yield
    except Timeout:
        raise RuntimeError(
            f"another process is training in {directory}: wait for it, then repeat the command"
        ) from None
