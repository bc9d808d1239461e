"""What parts promise each other: every part of the package keeps it, and a part that does not is named."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.contracts import require_contracts
from modeling_seqvae.decoders import DECODERS, LSTMDecoder
from modeling_seqvae.encoders import ENCODERS
from modeling_seqvae.gaussian import DiagonalGaussian, GaussianPosterior
from modeling_seqvae.pooling import POOLINGS
from modeling_seqvae.posteriors import POSTERIORS

SIZES: dict[str, Any] = {"vocab_size": 30, "embedding_size": 8, "hidden_size": 16, "latent_size": 3}
# Those of the package alone: tests of other files register parts while they run.
READERS = [*((encoder, "max") for encoder in ENCODERS), *(("lstm", pooling) for pooling in POOLINGS)]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("initializer_range", [0.01, 1.0])
def test_the_parts_of_the_package_keep_them(posterior: str, decoder: str, initializer_range: float) -> None:
    for encoder, pooling in READERS:
        config = SeqVAEConfig(
            **SIZES, encoder=encoder, pooling_mode=pooling, posterior=posterior, decoder=decoder,
            initializer_range=initializer_range,
        )  # fmt: skip
        require_contracts(SeqVAEForTextModeling(config))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_they_are_kept_in_every_precision_and_by_a_language_model(dtype: torch.dtype) -> None:
    require_contracts(SeqVAEForTextModeling(SeqVAEConfig(**SIZES)).to(dtype))
    require_contracts(SeqVAEForTextModeling(SeqVAEConfig(**{**SIZES, "latent_size": 0})).to(dtype))


def test_the_model_and_the_random_state_stay_as_they_are() -> None:
    model = SeqVAEForTextModeling(SeqVAEConfig(**SIZES)).train()
    weights, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    require_contracts(model)
    assert model.training and torch.get_rng_state().equal(state)
    assert all(value.equal(weights[name]) for name, value in model.state_dict().items())


def unmasked_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return states.max(1).values


class OfOneGenerator(DiagonalGaussian):
    def rsample(self, num_samples: int = 1, generator: Any = None) -> torch.Tensor:
        generator = generator[0] if isinstance(generator, Sequence) else generator
        noise = torch.randn(num_samples, *self.mean.shape, generator=generator)
        return self.mean + (0.5 * self.logvar).exp() * noise


class OneGenerator(GaussianPosterior):
    def forward(self, pooled: torch.Tensor) -> DiagonalGaussian:
        found = super().forward(pooled)
        return OfOneGenerator(found.mean, found.logvar)


class SeesTheFuture(LSTMDecoder):
    """Its states are means over all words."""

    def forward(self, *arguments: Any, **named: Any) -> Any:
        states, cache = super().forward(*arguments, **named)
        return (*states[:-1], states[-1].mean(1, keepdim=True).expand_as(states[-1])), cache


class Forgets(LSTMDecoder):
    """Begins anew at every call."""

    def forward(self, latents: Any, input_ids: Any = None, inputs_embeds: Any = None, cache: Any = None) -> Any:
        return super().forward(latents, input_ids, inputs_embeds)


class CountsHalf(LSTMDecoder):
    def nll(self, *arguments: Any) -> torch.Tensor:
        return super().nll(*arguments) / 2


def one_generator(hidden_size: int, config: Any) -> nn.Module:
    return OneGenerator(hidden_size, config.latent_size)


@pytest.mark.parametrize(
    ("registry", "field", "part", "told"),
    [
        (
            POOLINGS,
            "pooling_mode",
            unmasked_pool,
            "pooling_mode='broken': the features of a text depend on",
        ),
        (POSTERIORS, "posterior", one_generator, "posterior='broken': what is drawn for a text depends on the texts"),
        (DECODERS, "decoder", SeesTheFuture, "decoder='broken': a prediction depends on words behind it"),
        (DECODERS, "decoder", Forgets, "decoder='broken': words that are read after others"),
        (DECODERS, "decoder", CountsHalf, r"decoder='broken': -log p\(x\|z\) by `states_under` and `nll`"),
    ],
)
def test_a_part_that_breaks_one_is_named(
    registry: Any, field: str, part: Callable[..., Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry, "broken", part)
    model = SeqVAEForTextModeling(SeqVAEConfig(**SIZES, **{field: "broken"}))
    with pytest.raises(ValueError, match=told):
        require_contracts(model)
