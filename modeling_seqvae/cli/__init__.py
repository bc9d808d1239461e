"""The command line `seqvae`."""

from ..kernels import prepare_process
from .app import app
from .commands import demo, evaluate, interpolate, reconstruct, results, sample, train
from .explore_commands import explore, plot
from .export_command import export
from .feature_commands import classify, encode, score
from .latent_commands import analogy, edit, neighbours
from .list_command import list_names
from .push_command import push
from .reproduce_command import reproduce

__all__ = [
    "analogy",
    "app",
    "classify",
    "demo",
    "edit",
    "encode",
    "evaluate",
    "explore",
    "export",
    "interpolate",
    "list_names",
    "main",
    "neighbours",
    "plot",
    "push",
    "reconstruct",
    "reproduce",
    "results",
    "sample",
    "score",
    "train",
]


def main() -> None:
    """Run the command of `sys.argv`."""
    prepare_process()
    app()
