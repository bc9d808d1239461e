"""How far edits along labelled directions carry.

    python benchmarks/edits.py CHECKPOINT ...    # of those trained on the demo corpus

Directions are found on training reviews. On the test set: how well the position along a direction tells the two sides
apart (AUC; 0.5 is chance), and what is written when reviews of the side `away` are moved along it. The figures go to
docs/performance/edits.json, where those of other checkpoints stay; benchmarks/report.py makes the table.
"""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from measuring import write_report
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from modeling_seqvae import SeqVAE
from modeling_seqvae.data import demo

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs" / "performance" / "edits.json"
CARDS = ("model_cards/demo-unigram-pretraining", "model_cards/demo-max-pool")
METHODS = ("means", "logistic")
STRENGTHS = (0, 1, 2, 4)
TRAINING, EDITED = 5000, 200
LONG, SHORT = 20, 11
LENGTHS, STARS = f"at least {LONG} words, at most {SHORT}", "5 stars, 1 star"


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

    kinds = [(LENGTHS, "{:.1f} words", sizes, mean_length), (STARS, "{:.0%} positive", moods, share_positive)]
    rows = [
        {"labels": labels, "form": form, **figures(vae, *sides, method, judged)}
        for labels, form, sides, judged in kinds
        for method in METHODS
    ]
    centres = vae.encode(parts[1]["text"], "centre")
    return {
        "checkpoint": Path(checkpoint).name,
        "rows": rows,
        "training_reviews": TRAINING,
        "edited": EDITED,
        "strengths": STRENGTHS,
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


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", default=CARDS, metavar="CHECKPOINT", help="default: %(default)s")
    given = parser.parse_args()
    reports = {report["checkpoint"]: report for report in json.loads(MEASURED.read_text("utf-8"))}
    reports |= {report["checkpoint"]: report for report in map(measure, given.checkpoints)}
    write_report(MEASURED, list(reports.values()))


if __name__ == "__main__":
    _main()
