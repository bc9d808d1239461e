"""The `seqvae` command: train, evaluate, encode, classify, sample, work in the latent space, push; demonstration."""

from .commands import app
from .features import classify, encode
from .latent_space import analogy, edit, neighbours
from .sharing import push

__all__ = ["analogy", "app", "classify", "edit", "encode", "main", "neighbours", "push"]


def main() -> None:
    """Run the command of `sys.argv`."""
    app()
