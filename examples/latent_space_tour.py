"""A tour of a latent space: reconstructions, paths, an analogy, neighbours, and edits towards a label.

python examples/latent_space_tour.py [CHECKPOINT] [--texts 2000]

The labelled texts that edits need are reviews of the demo corpus, labelled by their length and by their stars. The
default checkpoint holds more of the second; docs/latent_space.md has its figures, and those of one that holds lengths.
"""

import argparse
from pathlib import Path

from modeling_seqvae import SeqVAE
from modeling_seqvae.data import demo

CHECKPOINT = Path(__file__).resolve().parents[1] / "model_cards" / "demo-unigram-pretraining"
SENTENCES = (
    "we had lunch at this lovely bistro, and the soup was delicious.",
    "what a dull museum, never again.",
    "the room at this hotel was filthy, and the staff seemed rude.",
)


def main() -> None:
    """Print each part of the tour."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", nargs="?", default=str(CHECKPOINT), help="a folder, or a name on the hub")
    parser.add_argument("--texts", type=int, default=2000, help="labelled reviews to search and to learn from")
    options = parser.parse_args()

    vae = SeqVAE.from_pretrained(options.checkpoint)
    reviews = demo.build(sizes=(0, 0, options.texts))["test"]
    texts, stars = reviews["text"][:], reviews["stars"][:]

    again = vae.reconstruct(SENTENCES)
    show("Reconstructions", [f"{text}\n  -> {new}" for text, new in zip(SENTENCES, again, strict=True)])
    for path in ("linear", "spherical"):
        show(f"A {path} path", vae.interpolate(*SENTENCES[:2], steps=5, path=path))
    show("What is to the third as the second is to the first", [vae.analogy(*SENTENCES)])
    for metric in ("cosine", "euclidean"):
        found = vae.neighbours(SENTENCES[0], texts, k=3, metric=metric)
        show(f"Nearest reviews, {metric}", [f"{near.distance:.3f}  {near.text}" for near in found])
    lengths = ["long" if len(text.split()) >= 20 else "short" for text in texts]
    for label, towards, away, labels in (("long reviews", "long", "short", lengths), ("five stars", 5, 1, stars)):
        for method in ("means", "logistic"):
            direction = vae.direction(texts, labels, towards, away, method)
            show(f"Towards {label}, {method}", vae.edit(SENTENCES[1], direction, strengths=(0, 1, 2, 4)))


def show(heading: str, lines: list[str]) -> None:
    """A heading, and indented lines below it."""
    print(f"\n{heading}", *(f"  {line}" for line in lines), sep="\n")


if __name__ == "__main__":
    main()
