"""Whether texts that are odd come out as odd: gibberish, another language and a repeated word among texts of a file.

    python benchmarks/odd_texts.py NAME=RUN [NAME=RUN ...] --texts FILE [--label-column NAME]

Scores the first 1,000 texts of FILE, which the RUNs should not have been trained on, and the odd ones by their -ELBO
(one draw), as `seqvae score --quick` does. Writes docs/performance/odd_texts.json, of which benchmarks/report.py makes
the table.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset, concatenate_datasets
from measuring import named_run, write_report

from modeling_seqvae import SeqVAE
from modeling_seqvae.data.corpora import read_texts
from modeling_seqvae.evaluation.scoring import quantiles, score_to_file
from modeling_seqvae.training.checkpoint import load_best, reading_of

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs" / "performance" / "odd_texts.json"
TEXTS = 1000
ODD = {
    "gibberish": "xqzv jkwp brtl vvnq zzkx pwqj mnbv qlrt",
    "German": "das Zimmer war sauber und die Mitarbeiter waren sehr freundlich",
    "one word": "aaaa aaaa aaaa aaaa aaaa aaaa",
}
BY = ("nats_a_token", "bits_per_byte")


def measure(vae: SeqVAE, texts: Dataset) -> list[dict[str, Any]]:
    """A record of each odd text: what it costs by each measure, and the share of the other texts that cost less."""
    rows = concatenate_datasets([texts.select_columns(["text"]), Dataset.from_dict({"text": list(ODD.values())})])
    with TemporaryDirectory() as folder:
        score_to_file(vae, rows, Path(folder) / "scores.csv", quick=True)
        scores = pd.read_csv(Path(folder) / "scores.csv")
    scores["nats_a_token"] = scores["bound"] / scores["tokens"]
    usual, odd = scores[: len(texts)], scores[len(texts) :]
    shares = {by: quantiles(np.sort(usual[by].to_numpy()), odd[by].to_numpy()) for by in BY}
    return [
        {
            "text": kind,
            "tokens": int(row["tokens"]),
            "unknown": int(row["unknown"]),
            **{by: _number(row[by]) for by in BY},
            **{f"share_{by}": _number(shares[by][place]) for by in BY},
            **{f"median_{by}": _number(usual[by].median()) for by in BY},
        }
        for place, (kind, (_, row)) in enumerate(zip(ODD, odd.iterrows(), strict=True))
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=named_run, metavar="NAME=RUN")
    parser.add_argument("--texts", type=Path, required=True, metavar="FILE")
    parser.add_argument("--label-column", metavar="NAME")
    given = parser.parse_args()
    records = []
    for name, run in given.runs:
        rows, _ = read_texts(given.texts, reading_of(run), label_column=given.label_column)
        rows = rows.filter(bool, input_columns="text")
        records += [{"run": name} | record for record in measure(load_best(run), rows.select(range(TEXTS)))]
    write_report(MEASURED, {"texts": TEXTS, "records": records})


if __name__ == "__main__":
    _main()
