"""What a run on a GPU left, among the files behind the documents' tables."""

from collections.abc import Iterator
from pathlib import Path

from results import RESULTS, keep_run

from modeling_seqvae.data.files import read_json, write_json

from .packing import ROOT

MEASURED = ROOT / "docs" / "performance"
WHERE = {"correctness": "gpu_correctness", "throughput": "gpu_throughput"}
TRAINED = "training.json"


def keep(left: Path, measured: Path = MEASURED, results: Path = RESULTS) -> Iterator[Path]:
    """Copy measurements and results, none of which is a weight; yields the copies.

    Raises FileNotFoundError where nothing was left.
    """
    found = [name for name in (*WHERE, "training") if (left / f"{name}.json").is_file()]
    if not found:
        raise FileNotFoundError(f"{left} holds nothing that a run on a GPU left")
    for name, copy in WHERE.items():
        if name in found:
            write_json(measured / f"{copy}.json", read_json(left / f"{name}.json"))
            yield measured / f"{copy}.json"
    if "training" in found:
        training = read_json(left / TRAINED, ("kept",))
        run = left / training["kept"]
        for stage in ("", "pretraining"):
            if (run / stage / "history.jsonl").is_file():
                keep_run(run / stage, results / training["kept"] / stage)
                yield results / training["kept"] / stage
        write_json(results / training["kept"] / TRAINED, training)
