"""Reads and tokenises the corpus of a training into the caches of `datasets`, while a GPU does something else."""

from pathlib import Path

from modeling_seqvae.data.batching import tokenise
from modeling_seqvae.training.run import read_corpus

from .driver import Settings
from .training import recipe_of


def main(settings: Settings, output_dir: Path, seconds: float) -> None:
    """What a training does before its first update."""
    corpus, tokenizer = read_corpus(recipe_of(settings), settings.data_dir)
    for rows in corpus.splits.values():
        tokenise(rows, tokenizer)
    print(corpus.report)
