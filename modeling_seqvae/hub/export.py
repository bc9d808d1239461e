"""The encoder as an ONNX file, for services that do without PyTorch: token ids in, posterior and pooled states out.

Needs onnx, onnxscript and onnxruntime: `pip install 'seqvae[onnx]'`.
"""

import importlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

from .. import __version__
from ..argument_checks import as_list_of_strings
from ..modeling_seqvae import SeqVAEForTextModeling
from ..text import SeqVAE

FLOAT, INT8 = "encoder.onnx", "encoder.int8.onnx"
FACTS = "export.json"
"""What was exported, how it is read, and by how much it differs from the model."""

INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("mean", "variance", "pooled")

TOLERANCE = 1e-5
"""Of the float32 file's values, absolute and relative."""

ROUNDING = 1e-12
"""Variance over texts, of all columns together, up to which they have the same values."""

WRITTEN = 256
"""Sentences that the model writes for the comparison, where no texts are given."""

LENGTHS = (1, 2, 3, 5, 8, 13, 34, 89, 233)
"""Tokens of the batches, of random words, that are compared besides."""


class EncoderGraph(nn.Module):
    """(input_ids, attention_mask), (B, T) each, to mean and variance of q(z|x), (B, Z), and pooled states (B, H).

    This is what can be exported, by `torch.export` and to ONNX. Raises ValueError for a language model, and where the
    encoder alone does not give the posterior.
    """

    def __init__(self, model: SeqVAEForTextModeling):
        super().__init__()
        model.model._require_latent("export the encoder")
        if model.refines:
            raise ValueError(
                f"cannot export the encoder: posterior={model.config.posterior!r} is refined for each text by the "
                "decoder, and an encoder alone gives only where that starts"
            )
        self.encoder = model.get_encoder()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pooled = self.encoder.read(input_ids, attention_mask)[1]
        posterior = self.encoder.posterior(pooled)
        return posterior.mean, posterior.variance, pooled

    @staticmethod
    def example() -> tuple[torch.Tensor, torch.Tensor]:
        """A batch to export with: any of two texts or more, and of two tokens or more, would do."""
        return torch.ones(3, 6, dtype=torch.long), torch.ones(3, 6, dtype=torch.long)

    @staticmethod
    def dynamic_shapes() -> tuple[dict[int, Any], dict[int, Any]]:
        """That both inputs may have any number of texts and tokens."""
        sizes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
        return sizes, sizes


class Difference(NamedTuple):
    """Between an exported file and the model, over texts: of one output.

    `largest` is the largest absolute difference; `relative` the root mean square difference as a share of the standard
    deviation over texts, both over all columns; None where all texts have the same values, as of a single text.
    """

    largest: float
    relative: float | None


def export_onnx(
    vae: SeqVAE, folder: str | os.PathLike[str], texts: Iterable[str] | None = None, int8: bool = True
) -> dict[str, Any]:
    """Write the encoder and its tokenizer into a folder; returns what export.json says of them.

    encoder.onnx has float32 weights; its values were compared with the model's, to 1e-5, on batches of 1 to 233 tokens.
    encoder.int8.onnx has weights of eight bits, a quarter of the size; export.json has its differences, over `texts`
    or, without them, over sentences that the model writes. tokenizer.json pads and cuts as the model was taught.

    Raises ModuleNotFoundError without the extra, ValueError for a language model, FileExistsError for a file, or a
    folder that holds other things, and RuntimeError where values differ.
    """
    onnxruntime, quantization = (_needed(name) for name in ("onnxruntime", "onnxruntime.quantization"))
    _needed("onnxscript")
    target = Path(folder)
    ours = {FLOAT, INT8, FACTS, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} is a file: name a new or an empty folder")
    others = sorted(path.name for path in target.iterdir() if path.name not in ours) if target.is_dir() else []
    if others:
        raise FileExistsError(f"{target} holds {others[0]!r}, which is not of an export: name a new or an empty folder")
    vae._require_latent("export the encoder")
    listed = vae.sample(WRITTEN, seed=0) if texts is None else as_list_of_strings(texts)
    if not listed:
        raise ValueError("there are no texts to compare the exported encoder on")
    graph, before = EncoderGraph(vae.model).eval(), (vae.device, vae.model.dtype)
    vae.to("cpu", torch.float32)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent) as made:
            work = Path(made)
            with _quiet():
                torch.onnx.export(
                    graph, graph.example(), work / FLOAT, input_names=INPUTS, output_names=OUTPUTS,
                    dynamic_shapes=graph.dynamic_shapes(), dynamo=True, external_data=False, verbose=False,
                )  # fmt: skip
                if int8:  # products of signed weights saturate on CPUs without VNNI, those of unsigned ones nowhere
                    quantization.quantize_dynamic(
                        work / FLOAT, work / INT8, weight_type=quantization.QuantType.QUInt8, per_channel=True,
                        extra_options={"EnableSubgraph": True},  # the recurrence is a loop with a graph of its own
                    )  # fmt: skip
            differences = {}
            for name in (FLOAT, INT8) if int8 else (FLOAT,):
                session = onnxruntime.InferenceSession(work / name, providers=["CPUExecutionProvider"])
                if name == FLOAT:
                    _require_equal(graph, session, vae)
                differences[name] = _differences(graph, session, vae, listed)
            facts = _facts(vae, differences, len(listed), written=texts is None)
            (work / FACTS).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
            _save_tokenizer(vae, work)
            target.mkdir(exist_ok=True)
            for name in ours:
                (target / name).unlink(missing_ok=True)
            for path in work.iterdir():
                shutil.move(path, target / path.name)
    finally:
        vae.to(*before)
    return facts


def _facts(vae: SeqVAE, differences: dict[str, dict[str, Difference]], texts: int, written: bool) -> dict[str, Any]:
    size = vae.model.config.latent_size
    return {
        "seqvae_version": __version__,
        "model": vae.model.name_or_path,
        "inputs": list(INPUTS),
        "outputs": {"mean": size, "variance": size, "pooled": len(vae.feature_names("pooled"))},
        "max_tokens": min(vae.tokenizer.model_max_length, 1 << 20),
        "compared_on": f"{texts} {'sentences that the model wrote' if written else 'texts given'}",
        "differences": {
            name: {output: of_output._asdict() for output, of_output in of_file.items()}
            for name, of_file in differences.items()
        },
    }


def _save_tokenizer(vae: SeqVAE, folder: Path) -> None:
    """tokenizer.json with padding and truncation in it, as the `tokenizers` library reads them."""
    vae.tokenizer.save_pretrained(folder)
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    plain.enable_padding(pad_id=vae.tokenizer.pad_token_id, pad_token=vae.tokenizer.pad_token)
    if vae.tokenizer.model_max_length < 1 << 20:
        plain.enable_truncation(vae.tokenizer.model_max_length)
    plain.save(str(folder / "tokenizer.json"))


def _require_equal(graph: EncoderGraph, session: Any, vae: SeqVAE) -> None:
    """Raise RuntimeError where the session's values differ from the graph's, on random words of many lengths."""
    generator = torch.Generator().manual_seed(0)
    for tokens in LENGTHS:
        for sentences in (1, 4):
            ids = torch.randint(vae.model.config.vocab_size, (sentences, tokens), generator=generator)
            mask = torch.ones_like(ids)
            mask[-1, (tokens + 1) // 2 :] = 0
            for name, found, expected in zip(OUTPUTS, _run(session, ids, mask), _own(graph, ids, mask), strict=True):
                if not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
                    largest = np.abs(found - expected).max()
                    raise RuntimeError(
                        f"{FLOAT} does not give the model's values: {name} differs by {largest:.1e}, in {sentences} "
                        f"texts of {tokens} tokens; nothing was written"
                    )


def _differences(graph: EncoderGraph, session: Any, vae: SeqVAE, texts: list[str]) -> dict[str, Difference]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of texts that are cut or unknown: here only two encoders are compared
        batches = [(batch.input_ids, batch.attention_mask) for batch in vae._batches(texts, "comparing", None, None)]
    found, expected = [_run(session, *batch) for batch in batches], [_own(graph, *batch) for batch in batches]
    result = {}
    for i, name in enumerate(OUTPUTS):
        ours, theirs = (np.concatenate([batch[i] for batch in of]).astype(np.float64) for of in (expected, found))
        spread = ours.var(0).sum()
        relative = float(np.sqrt(((ours - theirs) ** 2).mean(0).sum() / spread)) if spread > ROUNDING else None
        result[name] = Difference(float(np.abs(ours - theirs).max()), relative)
    return result


def _run(session: Any, ids: torch.Tensor, mask: torch.Tensor) -> list[NDArray[np.float32]]:
    return session.run(list(OUTPUTS), dict(zip(INPUTS, (ids.numpy(), mask.numpy()), strict=True)))


@torch.inference_mode()
def _own(graph: EncoderGraph, ids: torch.Tensor, mask: torch.Tensor) -> list[NDArray[np.float32]]:
    return [output.numpy() for output in graph(ids, mask)]


def _needed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"the export to ONNX needs {error.name}: pip install 'seqvae[onnx]'") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice of the exporters, which is meant for those who write them."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


__all__ = ["EncoderGraph", "export_onnx"]
