"""Where a model's reconstruction loss stands: on common words or on rare ones.

    python benchmarks/rare_words.py NAME=RUN [NAME=RUN ...] --data-dir DIR

The RUNs are trained on one corpus. On the first 1,000 sentences of its training and validation sets, without dropout
and with z at the mean of q(z|x), the nats of each predicted word are summed up by how often the training set has that
word. Writes docs/performance/rare_words.json; benchmarks/report.py makes the table.
"""

import argparse
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from measuring import named_run, write_report
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from modeling_seqvae import SeqVAEForTextModeling
from modeling_seqvae.data.batching import tokenise
from modeling_seqvae.training.recipe import Recipe
from modeling_seqvae.training.run import read_corpus

ROOT = Path(__file__).resolve().parents[1]
EDGES = (15, 50, 200, 1000, 10000)
"""Times that the training set has a word, from which on it is of the next bin."""
SENTENCES, BATCH = 1000, 50


def bins_of(counts: Sequence[int]) -> torch.Tensor:
    """The bin of each word, 0 for the rarest, from how often it occurs."""
    return torch.tensor([bisect_right(EDGES, count) for count in counts])


@torch.no_grad()
def nats_by_bin(
    model: SeqVAEForTextModeling, tokenizer: PreTrainedTokenizerBase, tokens: Dataset, bins: torch.Tensor
) -> list[float]:
    """Nats per sentence of the predicted words of each bin; their sum is the reconstruction loss at the mean."""
    nats = torch.zeros(len(EDGES) + 1, dtype=torch.float64)
    for start in tqdm(range(0, len(tokens), BATCH), leave=False):
        batch = tokenizer.pad(tokens[start : start + BATCH], return_tensors="pt")
        logits = model(**batch, sample_posterior=False).logits[:, :-1].float()
        targets, counted = batch["input_ids"][:, 1:], batch["attention_mask"][:, 1:].bool()
        nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")  # (B, T - 1)
        nats.index_add_(0, bins[targets[counted]], nll[counted].double())
    return (nats / len(tokens)).tolist()


def measure(runs: dict[str, Path], data_dir: Path | None) -> dict[str, Any]:
    """The figures of every run, on both splits. Raises ValueError unless all are of one corpus."""
    recipes = [Recipe.load(folder / "recipe.yaml") for folder in runs.values()]
    if any((recipe.corpus, recipe.limits) != (recipes[0].corpus, recipes[0].limits) for recipe in recipes):
        raise ValueError("the runs are of different corpora: their words do not compare")
    corpus, tokenizer = read_corpus(recipes[0], data_dir or recipes[0].data_dir)
    train = tokenise(corpus.splits["train"], tokenizer)
    found = Counter(chain.from_iterable(train["input_ids"]))
    bins = bins_of([found[number] for number in range(len(tokenizer))])
    splits = {"train": train, "validation": tokenise(corpus.splits["validation"], tokenizer)}
    records = []
    for name, folder in runs.items():
        model = SeqVAEForTextModeling.from_pretrained(folder / "best").eval()
        for split, tokens in splits.items():
            first = tokens.select(range(min(SENTENCES, len(tokens)))).select_columns(["input_ids"])
            records.append({"run": name, "split": split, "nats": nats_by_bin(model, tokenizer, first, bins)})
    return {"corpus": recipes[0].corpus.name, "sentences": SENTENCES, "edges": EDGES, "records": records}


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=named_run, metavar="NAME=RUN")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where the corpus is; default: as in the recipes")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "performance" / "rare_words.json")
    given = parser.parse_args()
    report = measure({name: Path(run) for name, run in given.runs}, given.data_dir)
    write_report(given.output, report)
    print(f"written: {given.output}")


if __name__ == "__main__":
    _main()
