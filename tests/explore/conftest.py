"""A real model of reviews from this repository, beside reviews with stars, some of which are markup."""

from pathlib import Path

import pytest

from modeling_seqvae import SeqVAE
from modeling_seqvae.data import demo
from modeling_seqvae.explore.explorer import Explorer

CHECKPOINT = Path(__file__).parents[2] / "model_cards" / "demo-unigram-pretraining"
EVIL = '<script>window.evil = 1</script> the food & <img src=x onerror="window.evil = 1"> was good .'
HISTORY = [
    {"epoch": epoch, "bound": 30.0 - epoch, "rec": 26.0 - epoch, "kl": 4.0, "mi": 3.0, "au": 9, "cosine": 0.5}
    for epoch in (1, 2, 3)
]


@pytest.fixture(scope="session")
def vae() -> SeqVAE:
    return SeqVAE.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="session")
def reviews() -> tuple[list[str], list[str]]:
    """Texts and stars; the first text is markup, and so is its label's neighbour in the alphabet."""
    rows = demo.build(sizes=(0, 0, 240))["test"]
    return [EVIL, *rows["text"]], ["5", *map(str, rows["stars"])]


@pytest.fixture(scope="session")
def explorer(vae: SeqVAE, reviews: tuple[list[str], list[str]]) -> Explorer:
    return Explorer(vae, *reviews, title="Reviews <b>of</b> a grammar", source="test", left_out=1759, history=HISTORY)
