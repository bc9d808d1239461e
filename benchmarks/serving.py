"""What an encoder costs in a service: one text, a batch of 32, and many texts, in PyTorch and as ONNX.

    python benchmarks/serving.py --output docs/performance/serving.json

Needs the extra onnx. From strings to arrays of means and variances, tokenisation included. Texts are sentences that the
model writes; many texts are read in batches of 32 of similar length. Each round measures every way once, so that other
work on the machine is shared among them; a figure is the median over rounds. Memory is what a process of its own holds
that has imported what it needs, loaded the encoder and encoded a batch.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 32
COMPARED = 1_000  # texts whose means and variances are compared with those of PyTorch in float32
MODEL = Path(__file__).resolve().parents[1] / "model_cards" / "sentences-unigram-pretraining"

Encode = Callable[[list[str]], Any]


def pytorch(model: str, exported: str, dtype: str) -> Encode:
    """`SeqVAE.encode` in float32 or bfloat16."""
    import torch

    from modeling_seqvae import SeqVAE

    torch.set_num_threads(1)
    vae = SeqVAE.from_pretrained(model, batch_size=BATCH).to(getattr(torch, dtype))
    return lambda texts: vae.encode(texts, show_progress=False)


def onnx(model: str, exported: str, file: str) -> Encode:
    """An exported encoder, as docs/serving.md reads it."""
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{exported}/tokenizer.json")
    tokenizer.encode_special_tokens = True
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(f"{exported}/{file}", options)

    def of_batch(texts: list[str]) -> Any:
        batch = tokenizer.encode_batch(texts)
        ids, mask = (np.array([getattr(text, name) for text in batch]) for name in ("ids", "attention_mask"))
        return np.concatenate(session.run(["mean", "variance"], {"input_ids": ids, "attention_mask": mask}), 1)

    def encode(texts: list[str]) -> Any:
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        parts = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        rows = np.concatenate([of_batch([texts[i] for i in part]) for part in parts])
        return rows[np.argsort(order)]

    return encode


WAYS: dict[str, tuple[Callable[..., Encode], str]] = {
    "PyTorch, float32": (pytorch, "float32"),
    "PyTorch, bfloat16": (pytorch, "bfloat16"),
    "ONNX, float32": (onnx, "encoder.onnx"),
    "ONNX, int8": (onnx, "encoder.int8.onnx"),
}


def measure(model: str, exported: str, texts: list[str], rounds: int) -> list[dict[str, Any]]:
    """A record for each of `WAYS`: milliseconds of one text and of a batch, texts a second of all, and their errors."""
    encoders = {name: made(model, exported, how) for name, (made, how) in WAYS.items()}
    compared = texts[:COMPARED]
    exact = encoders["PyTorch, float32"](compared)
    records: dict[str, dict[str, Any]] = {}
    for name, encode in encoders.items():
        off = encode(compared) - exact
        means = slice(exact.shape[1] // 2)
        relative = np.sqrt((off[:, means] ** 2).mean(0).sum() / exact[:, means].var(0).sum())
        records[name] = {"way": name, "difference": float(np.abs(off).max()), "relative": float(relative)}
    found: dict[str, list[tuple[list[float], float, float]]] = {name: [] for name in encoders}
    for number in range(rounds):
        for name, encode in encoders.items():
            ones = [_seconds(encode, [text]) for text in texts[:100]]
            batch = np.median([_seconds(encode, texts[:BATCH]) for _ in range(10)])
            found[name].append((ones, float(batch), _seconds(encode, texts)))
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    for name, rows in found.items():
        ones = np.array([row[0] for row in rows])
        records[name] |= {
            "one_ms": 1e3 * float(np.median(ones)),
            "one_p99_ms": 1e3 * float(np.median(np.quantile(ones, 0.99, axis=1))),
            "batch_ms": 1e3 * float(np.median([row[1] for row in rows])),
            "texts_per_second": len(texts) / float(np.median([row[2] for row in rows])),
        }
    return list(records.values())


def _seconds(encode: Encode, texts: list[str]) -> float:
    started = time.perf_counter()
    encode(texts)
    return time.perf_counter() - started


def resident_megabytes(name: str, model: str, exported: str, texts: list[str]) -> float:
    """Of a process of its own that encodes a batch in one of `WAYS`."""
    given = json.dumps([name, model, exported, texts[:BATCH]])
    done = subprocess.run([sys.executable, __file__, "--resident"], input=given, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout)


def _print_resident() -> None:
    name, model, exported, texts = json.load(sys.stdin)
    made, how = WAYS[name]
    made(model, exported, how)(texts)
    status = Path("/proc/self/status").read_text("utf-8")
    print(int(status.partition("VmRSS:")[2].split()[0]) / 1024)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(MODEL), help="a checkpoint (default: that of everyday English)")
    parser.add_argument("--texts", type=int, default=10_000, help="how many (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, help="write the records there, as JSON")
    parser.add_argument("--resident", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.resident:
        _print_resident()
        return
    import torch
    from measuring import Machine, write_report

    from modeling_seqvae import SeqVAE
    from modeling_seqvae.hub.export import export_onnx

    torch.set_num_threads(1)
    vae = SeqVAE.from_pretrained(given.model)
    written = vae.sample(min(given.texts, 500), seed=0)
    texts = [written[i] for i in np.random.default_rng(0).integers(0, len(written), given.texts)]
    with tempfile.TemporaryDirectory(prefix="seqvae-serving-") as folder:
        exported = f"{folder}/encoder"
        export_onnx(vae, exported, written)
        records = measure(given.model, exported, texts, given.rounds)
        for record in records:
            record["resident_mb"] = resident_megabytes(record["way"], given.model, exported, texts)
    words = sum(len(ids) for ids in vae.tokenizer(texts)["input_ids"]) / len(texts)
    report = {
        "machine": asdict(Machine.of(torch.device("cpu"))),
        "model": Path(given.model).name,
        "texts": len(texts),
        "tokens": words,
        "records": records,
    }
    for record in records:
        print(json.dumps(record))
    if given.output:
        write_report(given.output, report)


if __name__ == "__main__":
    _main()
