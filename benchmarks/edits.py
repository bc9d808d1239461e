"""How far edits along labelled directions carry: the table of docs/latent_space.md.

    python benchmarks/edits.py CHECKPOINT ...    # of those trained on the embedded corpus
    python benchmarks/edits.py --tables          # only the table, from what was measured before

Directions are found on training reviews. On the test set: how well the position along a direction tells the two sides
apart (AUC; 0.5 is chance), and what is written when reviews of the side `away` are moved along it. The figures go to
docs/results/edits.json, where those of other checkpoints stay.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from pages import with_region
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from modeling_seqvae import SeqVAE
from modeling_seqvae.data import demo
from modeling_seqvae.evaluation.table import markdown

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "latent_space.md"
MEASURED = ROOT / "docs" / "results" / "edits.json"
CARDS = ("model_cards/demo-unigram-pretraining", "model_cards/demo-max-pool")
METHODS = ("means", "logistic")
STRENGTHS = (0, 1, 2, 4)
TRAINING, EDITED = 5000, 200
LONG, SHORT = 20, 11
LENGTHS, STARS = f"at least {LONG} words, at most {SHORT}", "5 stars, 1 star"
COLUMNS = {
    "checkpoint": ("Checkpoint", "{}"),
    "labels": ("Labels", "{}"),
    "method": ("Method", "{}"),
    "length": ("Length", "{:.2f}"),
    "auc": ("AUC", "{:.3f}"),
    **{f"at_{strength}": (f"Strength {strength}", "{}") for strength in STRENGTHS},
}


def words(text: str) -> int:
    """Words of a written or a read text, punctuation left out."""
    return len(re.findall(r"\w+", text))


def long_or_short(text: str) -> int | None:
    """1 for a long review, 0 for a short one, None for those between."""
    return 1 if words(text) >= LONG else 0 if words(text) <= SHORT else None


def judge_of_mood(texts: Sequence[str], sides: Sequence[int]) -> Any:
    """A TF-IDF classifier of the two sides, which knows nothing of the encoder."""
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000)).fit(texts, sides)


def sides_of(texts: Sequence[str], labels: Sequence[int | None]) -> tuple[list[str], list[int]]:
    """The texts that are on either side, and on which."""
    kept = [(text, label) for text, label in zip(texts, labels, strict=True) if label is not None]
    return [text for text, _ in kept], [label for _, label in kept]


def measure(checkpoint: str) -> dict[str, Any]:
    """Every direction's figures."""
    vae = SeqVAE.from_pretrained(checkpoint)
    reviews = demo.build()
    parts = (reviews["train"].select(range(TRAINING)), reviews["test"])
    sizes = [sides_of(part["text"][:], [long_or_short(text) for text in part["text"]]) for part in parts]
    moods = [sides_of(part["text"][:], [{1: 0, 5: 1}.get(stars) for stars in part["stars"]]) for part in parts]
    judge = judge_of_mood(*moods[0])

    def mean_length(written: list[str]) -> float:
        return fmean(map(words, written))

    def share_positive(written: list[str]) -> float:
        return float(np.mean(judge.predict(written)))

    kinds = [(LENGTHS, sizes, mean_length), (STARS, moods, share_positive)]
    rows = [
        {"labels": labels, **figures(vae, *sides, method, judged)}
        for labels, sides, judged in kinds
        for method in METHODS
    ]
    centres = vae.encode(parts[1]["text"], "centre")
    return {
        "checkpoint": Path(checkpoint).name,
        "rows": rows,
        "training_reviews": TRAINING,
        "edited": EDITED,
        "distance_from_origin": float(np.linalg.norm(centres, axis=1).mean()),
        "judge_accuracy": float(judge.score(*moods[1])),
    }


def figures(
    vae: SeqVAE,
    train: tuple[list[str], list[int]],
    test: tuple[list[str], list[int]],
    method: str,
    judged: Callable[[list[str]], float],
) -> dict[str, Any]:
    """A direction's length, its AUC on the test set, and what edits of each strength give."""
    direction = vae.direction(*train, towards=1, away=0, method=method)
    positions = vae.encode(test[0], "centre") @ direction
    away = [text for text, side in zip(*test, strict=True) if side == 0][:EDITED]
    edited = vae.edit(away, direction, STRENGTHS)
    return {
        "method": method,
        "length": float(np.linalg.norm(direction)),
        "auc": float(roc_auc_score(test[1], positions)),
        "written": [judged([texts[place] for texts in edited]) for place in range(len(STRENGTHS))],
    }


def page(reports: Sequence[Mapping[str, Any]]) -> str:
    """What docs/latent_space.md should be."""
    forms = {LENGTHS: "{:.1f} words", STARS: "{:.0%} positive"}
    rows = []
    for report in reports:
        for row in report["rows"]:
            written = map(forms[row["labels"]].format, row["written"])
            at = {f"at_{strength}": text for strength, text in zip(STRENGTHS, written, strict=True)}
            rows.append({"checkpoint": f"`{report['checkpoint']}`", **row, **at})
    first = reports[0]
    distances = " and ".join(f"{report['distance_from_origin']:.1f}" for report in reports)
    told = (
        f"Directions from {first['training_reviews']:,} training reviews, tried on the test set. AUC is that of the "
        "position along the direction between the two sides (0.5: no better than chance). The last columns are of the "
        f"first {first['edited']} reviews of the second side, edited towards the first: the mean length of what is "
        "written, or how much of it is positive to a TF-IDF classifier, which is right on "
        f"{first['judge_accuracy']:.1%} of the test reviews with one or five stars. The distance of centres from the "
        f"origin is {distances} on average."
    )
    return with_region(PAGE.read_text("utf-8"), "edits", f"{markdown(rows, COLUMNS)}\n\n{told}")


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", default=CARDS, metavar="CHECKPOINT", help="default: %(default)s")
    parser.add_argument("--tables", action="store_true", help="only write the table again")
    given = parser.parse_args()
    reports = {report["checkpoint"]: report for report in json.loads(MEASURED.read_text("utf-8"))}
    if not given.tables:
        reports |= {report["checkpoint"]: report for report in map(measure, given.checkpoints)}
        MEASURED.write_text(json.dumps(list(reports.values()), indent=1) + "\n", "utf-8")
    PAGE.write_text(page(list(reports.values())), "utf-8")


if __name__ == "__main__":
    _main()
