"""The encoder can be exported: one graph for any number of sentences of any length, with the same values."""

from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modeling_seqvae.pooling import POOLINGS
from modeling_seqvae.posteriors import POSTERIORS

DYNAMIC = {0: torch.export.Dim("sentences"), 1: torch.export.Dim("tokens")}


class Features(nn.Module):
    """As in docs/features.md."""

    def __init__(self, model: Any):
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pooled = self.encoder.read(input_ids, attention_mask)[1]
        posterior = self.encoder.posterior(pooled)
        return posterior.mean, posterior.variance.log(), pooled


def texts() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of several sizes and lengths, padded on either side."""
    for sentences, tokens in ((1, 1), (1, 7), (2, 1), (5, 23)):
        ids, mask = torch.randint(4, 20, (sentences, tokens)), torch.ones(sentences, tokens, dtype=torch.long)
        yield ids, mask
        mask[0, 1:] = 0
        mask[-1, : tokens // 2] = 0
        yield ids, mask


@torch.no_grad()
def assert_same(features: Features, exported: Callable[..., Any]) -> None:
    for ids, mask in texts():
        for found, expected in zip(exported(ids, mask), features(ids, mask), strict=True):
            torch.testing.assert_close(torch.as_tensor(found), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("pooling", "posterior"), zip_longest(POOLINGS, POSTERIORS, fillvalue="gaussian"))
def test_the_exported_encoder_has_the_same_values(make_model, tmp_path, pooling, posterior) -> None:
    features = Features(make_model(pooling_mode=pooling, posterior=posterior, num_hidden_layers=2)).eval()
    example = (torch.randint(4, 20, (3, 6)), torch.ones(3, 6, dtype=torch.long))
    exported = torch.export.export(features, example, dynamic_shapes=(DYNAMIC, DYNAMIC))
    assert_same(features, exported.module())
    if posterior == "gaussian":  # and as a file
        torch.export.save(exported, tmp_path / "encoder.pt2")
        assert_same(features, torch.export.load(tmp_path / "encoder.pt2").module())


def test_so_has_the_onnx_file(make_model, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    features = Features(make_model(num_hidden_layers=2)).eval()
    example = (torch.randint(4, 20, (3, 6)), torch.ones(3, 6, dtype=torch.long))
    torch.onnx.export(features, example, tmp_path / "encoder.onnx", dynamic_shapes=(DYNAMIC, DYNAMIC))
    session = runtime.InferenceSession(tmp_path / "encoder.onnx")
    names = [given.name for given in session.get_inputs()]
    assert_same(features, lambda *given: session.run(None, dict(zip(names, (x.numpy() for x in given), strict=True))))


def test_left_padding_is_refused_by_a_compiled_model_too(make_model) -> None:
    """Without a branch on values, at which a graph would end."""
    model = make_model()

    def states(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return model.model(ids, mask, return_dict=True).latents

    compiled = torch.compile(states, backend="eager")
    ids, mask = torch.tensor([[1, 5, 2], [1, 2, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    torch.testing.assert_close(compiled(ids, mask), states(ids, mask))
    with pytest.raises((ValueError, RuntimeError), match="pad on the right"):
        compiled(ids, mask.flip(1))
