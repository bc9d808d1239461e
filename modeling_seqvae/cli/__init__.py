"""The `seqvae` command: train, evaluate, encode, sample, reconstruct, interpolate, push; and the demonstration."""

from .commands import app
from .sharing import push

__all__ = ["app", "main", "push"]


def main() -> None:
    """Run the command of `sys.argv`."""
    app()
