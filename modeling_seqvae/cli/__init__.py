"""The `seqvae` command: train, evaluate, encode, sample, reconstruct, interpolate; and the demonstration."""

from .commands import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command of `sys.argv`."""
    app()
