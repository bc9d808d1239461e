"""With the weights of the public reference implementation, its numbers (tests/fixtures/README.md)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling

REFERENCE = Path(__file__).parent / "fixtures" / "reference.npz"
TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-4}
LSTM = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    with np.load(REFERENCE, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture(params=list(TOLERANCES), ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def model(reference: dict[str, torch.Tensor], dtype: torch.dtype) -> SeqVAEForTextModeling:
    config = SeqVAEConfig(vocab_size=50, embedding_size=12, hidden_size=16, latent_size=4, pooling_mode="last")
    model = SeqVAEForTextModeling(config).to(dtype).eval()
    names = {
        "model.encoder.embed_tokens.weight": "encoder.embed.weight",
        "model.encoder.posterior.linear.weight": "encoder.linear.weight",
        "model.decoder.embed_tokens.weight": "decoder.embed.weight",
        "model.decoder.initial_cell.weight": "decoder.trans_linear.weight",
        "lm_head.weight": "decoder.pred_linear.weight",
    }
    for side in ("encoder", "decoder"):
        names |= {f"model.{side}.layers.0.{name}": f"{side}.lstm.{name}" for name in LSTM}
    weights = {ours: reference[f"weights.{theirs}"] for ours, theirs in names.items()}
    weights["model.encoder.posterior.linear.bias"] = torch.zeros(8)  # the reference has none
    model.load_state_dict(weights)
    return model


def assert_agrees(value: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(value.double(), expected, rtol=0, atol=TOLERANCES[value.dtype])


def test_posterior(model, reference) -> None:
    posterior = model.encode(reference["input_ids"])
    assert_agrees(posterior.mean, reference["posterior_mean"])
    assert_agrees(posterior.logvar, reference["posterior_logvar"])


def test_kl(model, reference) -> None:
    assert_agrees(model.encode(reference["input_ids"]).kl(), reference["kl"])
    assert_agrees(model(reference["input_ids"]).kl, reference["kl"])


def test_reconstruction_of_each_draw(model, reference, dtype) -> None:
    ids = reference["input_ids"]
    for draw in range(reference["latents"].shape[1]):
        out = model(ids, labels=ids, latents=reference["latents"][:, draw].to(dtype))
        assert_agrees(out.reconstruction_loss, reference["reconstruction"][:, draw])


def test_importance_weighted_nll_of_the_draws(model, reference, dtype) -> None:
    latents = reference["latents"].transpose(0, 1).to(dtype)  # (S, B, Z)
    assert_agrees(model.iw_nll(reference["input_ids"], latents=latents), reference["iw_nll"])
