"""How fast a corpus is read, counted, cut and tokenised, from its file to the ids of its words.

    python benchmarks/reading.py [--text FILE --label-column label] [--documents N] --name after --output FILE.json

Without --text it writes a text of its own. Everything is read with an empty cache, in a temporary folder. Seconds are
those of the processor, of this process, its threads and its children, so that other work on the machine matters little;
`limit` is reading the first 1,000 documents only, of a folder that has its own validation and test sets. A record of
the same name in --output is replaced and the others are kept: with PYTHONPATH at another version of the package, and
`--name before`, both versions are measured by the same script on the same text.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LIMIT = 1_000
TYPES = 200_000


def write_text(path: Path, documents: int) -> None:
    """Documents of some 120 words, by Zipf's law from a vocabulary with capitals, commas, dots and contractions."""
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    stems = ["".join(random.choice(letters, size)) for size in random.integers(2, 10, TYPES)]
    ends = random.choice(["", "", "", "", "", ",", ".", "n't", "-" + stems[0], ")"], TYPES)
    types = np.array([f"{stem}{end}" for stem, end in zip(stems, ends, strict=True)])
    shares = np.cumsum(1 / np.arange(3, TYPES + 3))
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, documents, 2_000):
            lengths = np.clip(random.normal(120, 40, min(2_000, documents - start)).astype(int), 5, None)
            drawn = types[np.searchsorted(shares, random.random(lengths.sum()) * shares[-1])]
            file.writelines(" ".join(part).capitalize() + "\n" for part in np.split(drawn, lengths.cumsum()[:-1]))


def processor_seconds() -> float:
    """Of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(text: Path, label_column: str | None) -> list[dict[str, Any]]:
    """A record for each phase: its processor seconds, and the documents and words that it went through."""
    from modeling_seqvae.data.batching import tokenise
    from modeling_seqvae.data.corpora import load_corpus
    from modeling_seqvae.data.corpus_spec import spec_from_path
    from modeling_seqvae.data.vocabulary import corpus_tokenizer
    from modeling_seqvae.training import run  # noqa: F401  # what a command has imported by then

    records = []

    def timed(phase: str, work: Callable[[], Any]) -> Any:
        started = processor_seconds()
        result = work()
        records.append({"phase": phase, "seconds": processor_seconds() - started})
        print(f"{phase:<12}{records[-1]['seconds']:>10.2f} s", file=sys.stderr, flush=True)
        return result

    corpus = timed("corpus", lambda: load_corpus(spec_from_path(text, label_column=label_column)))
    splits = corpus.splits
    tokenizer = timed("vocabulary", lambda: corpus_tokenizer(corpus.spec, splits["train"]))
    tokens = timed("tokens", lambda: [tokenise(rows, tokenizer) for rows in splits.values()])
    documents = sum(map(len, tokens))
    words = sum(report.documents * report.mean_words for report in corpus.report.splits.values())
    records.append({"phase": "together", "seconds": sum(record["seconds"] for record in records)})
    for record in records:
        record |= {"documents": documents, "words": round(words)}
    few = text.with_name("few.txt")
    with text.open(encoding="utf-8") as file:
        few.write_text("".join(line for line, _ in zip(file, range(100), strict=False)), "utf-8")
    spec = spec_from_path(text, label_column=label_column, validation=few, test=few)
    names = corpus.splits["train"].features["label"].names if label_column else None
    spec = spec.model_copy(update={"labels": names and tuple(names)})
    again = text.with_name("again.txt")  # which no cache knows
    os.link(text, again)
    spec = spec.model_copy(update={"files": spec.files.model_copy(update={"train": str(again)})})
    limited = timed("limit", lambda: load_corpus(spec, limits={"train": LIMIT}))
    counted = limited.report.splits["train"]
    records[-1] |= {"documents": counted.documents, "words": round(counted.documents * counted.mean_words)}
    return records


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="a .txt to read (default: one that is written)")
    parser.add_argument("--label-column", help="of --text: its lines are `label<TAB>text`")
    parser.add_argument("--documents", type=int, default=100_000, help="of the text (default: %(default)s)")
    parser.add_argument("--name", default="now", help="of what is measured (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="write the records there, as JSON")
    given = parser.parse_args()
    if given.documents < 100:
        parser.error("--documents must be at least 100")
    return given


def _main() -> None:
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="seqvae-reading-") as folder:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HOME": f"{folder}/home"}
        os.environ.pop("HF_DATASETS_CACHE", None)
        text = Path(folder) / "text.txt"
        if given.text:
            with given.text.open(encoding="utf-8") as file, text.open("w", encoding="utf-8") as copy:
                copy.writelines(line for line, _ in zip(file, range(given.documents), strict=False))
        else:
            write_text(text, given.documents)
        records = measure(text, given.label_column)
    print(f"{'phase':<12}{'seconds':>10}{'documents/s':>13}{'words/s':>13}")
    for record in records:
        rates = [record[of] / max(record["seconds"], 0.01) for of in ("documents", "words")]
        print(f"{record['phase']:<12}{record['seconds']:>10.2f}{rates[0]:>13,.0f}{rates[1]:>13,.0f}")
    if given.output:
        report = json.loads(given.output.read_text("utf-8")) if given.output.is_file() else {"records": []}
        kept = [record for record in report["records"] if record["name"] != given.name]
        name = given.text.name if given.text else "a text of the benchmark's own"
        records = [{"name": given.name, "text": name, **record} for record in records]
        given.output.write_text(json.dumps({"records": kept + records}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    _main()
