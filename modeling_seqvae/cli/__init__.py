"""The command line `seqvae`."""

from ..kernels import prepare_process
from . import (  # noqa: F401  each adds its commands to the app
    commands,
    explore_commands,
    export_command,
    feature_commands,
    latent_commands,
    list_command,
    push_command,
    reproduce_command,
)
from .app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command of `sys.argv`."""
    prepare_process()
    app()
