"""`python -m modeling_seqvae` is the `seqvae` command."""

from .cli import main

main()
