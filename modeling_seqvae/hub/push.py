"""Sharing a run on the hub: at its end, or in the background whenever it has become better."""

import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from ..sharing import SharingError, make_room, push_files
from ..training.callbacks import Callback
from ..training.trainer import SeqVAETrainer
from .contents import Contents, contents


def push_run(
    run: str | Path,
    repo_id: str,
    *,
    code: bool = True,
    samples: int = 5,
    licence: str | None = None,
    sentence_features: str | None = None,
    **options: Any,
) -> str:
    """Share a run's best checkpoint, card, recipe, history, curves and evaluation in one commit; its URL.

    `sentence_features` lets sentence-transformers load it as well, for these features. Other `options` are those of
    push_files: private, revision, create_pr, update, token. Raises what contents and push_files raise.
    """
    shared = contents(run, repo_id, code=code, samples=samples, licence=licence, sentence_features=sentence_features)
    return push_files(shared.files, repo_id, commit_message=f"Share {shared.title}", **options)


class PushOnBest(Callback):
    """Shares a run in the background each time it has become better; `with` waits for the last commit at the end.

        with PushOnBest("user/name", private=True) as push:
            run.train(recipe, output_dir, callbacks=[push])

    The repository is made, or refused, at once; `update` allows one that holds files, such as the same run's before it
    was interrupted. What fails later is a warning and stops no training. While a commit is under way the newest best
    waits and older ones are passed over. One process constructs it. Raises what make_room raises.
    """

    def __init__(self, repo_id: str, *, private: bool = False, update: bool = False, token: str | None = None):
        make_room(repo_id, private=private, update=update, token=token)
        self.repo_id = repo_id
        self.token = token
        self._worker = ThreadPoolExecutor(1, "push")
        self._waiting: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self._worker.shutdown()

    def on_best(self, trainer: SeqVAETrainer, record: dict[str, Any]) -> None:
        self.share(trainer.output_dir)

    def share(self, run: Path) -> None:
        """Share the best/ and the history of this moment, without samples, which would cost training time."""
        if self._waiting is not None:
            self._waiting.cancel()
        with _warning_only(), ExitStack() as made:
            copy = Path(made.enter_context(TemporaryDirectory()))  # the next best/ may come before this one is shared
            best = Path(shutil.copytree(run / "best", copy / "best"))
            shared = contents(run, self.repo_id, checkpoint=best, samples=0)
            kept = made.pop_all()
            self._waiting = self._worker.submit(self._push, shared)
            self._waiting.add_done_callback(lambda done: kept.close())  # shared or passed over

    def _push(self, shared: Contents) -> None:
        with _warning_only():
            message = f"Share {shared.title}, so far"
            push_files(shared.files, self.repo_id, commit_message=message, update=True, token=self.token)


@contextmanager
def _warning_only() -> Iterator[None]:
    """What the disk, the run's files or the hub refuse, as a warning."""
    try:
        yield
    except (SharingError, OSError, ValueError) as error:
        warnings.warn(f"not shared: {error}. Training goes on, and the next best is shared again", stacklevel=2)
