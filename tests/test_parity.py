"""With the weights of the public reference implementation, its numbers (tests/fixtures/README.md)."""

import pytest
import torch

from modeling_seqvae import SeqVAEForTextModeling
from tests.fixtures.reference import TOLERANCES, reference_model, reference_numbers


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    return reference_numbers()


@pytest.fixture(params=list(TOLERANCES), ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def model(reference: dict[str, torch.Tensor], dtype: torch.dtype) -> SeqVAEForTextModeling:
    return reference_model(reference, dtype)


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
