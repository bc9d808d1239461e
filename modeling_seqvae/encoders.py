"""Encoders: what reads a text and gives the parameters of q(z|x), and the names of those there are.

Letters in shapes: B sentences, T tokens, E embedding, H hidden, Z latent.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .convolutional_decoders import halved
from .decoders import drop_words, lstm_layers, words_given
from .kernels import run_layer
from .outputs import SeqVAEEncoderOutput
from .pooling import build_pooling
from .posteriors import POSTERIORS
from .registry import ENCODERS, subclass_of


def mask_of(input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None, config: Any) -> torch.Tensor | None:
    """The caller's mask, or one that hides padding tokens, which never stand for a word."""
    if attention_mask is None and input_ids is not None and config.pad_token_id is not None:
        return input_ids != config.pad_token_id
    return attention_mask


class SeqVAEEncoder(nn.Module):
    """Reads `<s> x_1 .. x_n </s>` and returns the parameters of q(z|x): embedding, LSTM, pooling, posterior.

    A subclass overrides `make_layers`, `run` or `read`. `forward` stays: features and likelihoods do not call it.
    """

    main_input_name = "input_ids"
    title = "an LSTM encoder"
    """What it is, in a model card's sentence."""
    largest = 1.0
    """The largest pooled value that eight bits hold: here the bound of an LSTM's states."""

    @staticmethod
    def require(config: Any) -> None:
        """Raise ValueError for a configuration that this encoder cannot have, which names the field."""

    def __init__(self, config: Any):
        super().__init__()
        self.config = config
        hidden_size = config.encoder_hidden_size or config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size)
        self.layers: Any = self.make_layers(config.embedding_size, hidden_size, config)
        self.pooling = build_pooling(config.pooling_mode, hidden_size, **config.options_of("pooling_mode"))
        self.posterior = POSTERIORS[config.posterior](hidden_size, config)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        sample_posterior: bool | None = None,
        return_dict: bool | None = None,
        output_attentions: bool | None = None,
    ) -> SeqVAEEncoderOutput:
        """Latents, KL and features of input_ids (B, T) or inputs_embeds (B, T, E); see SeqVAEEncoderOutput.

        The last two arguments are what `generate` gives every encoder.
        """
        states, pooled = self.read(input_ids, attention_mask, inputs_embeds)
        return self.output(states, pooled, self.posterior(pooled), sample_posterior, output_hidden_states)

    def output(
        self,
        states: tuple[torch.Tensor, ...],
        pooled: torch.Tensor,
        posterior: Any,
        sample_posterior: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> SeqVAEEncoderOutput:
        """What `read` gave, with latents and KL of the posteriors that were made of it."""
        drawn = posterior.draw() if sample_posterior else posterior.at_centre()
        return SeqVAEEncoderOutput(
            last_hidden_state=states[-1],
            latents=drawn.latents,
            kl=drawn.kl,
            pooled=pooled,
            hidden_states=states if output_hidden_states else None,
            flow_inputs=drawn.flow_inputs,
            kl_per_dimension=drawn.kl_per_dimension,
        )

    def read(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """The embeddings and each layer's states, (B, T, .) each, and the pooled features h_x (B, H).

        Positions are those of the text with all padding moved to its right. Without a mask, padding tokens are hidden.
        In training, words of input_ids are dropped first.
        Raises ValueError for a mask of another shape than (B, T).
        """
        given = words_given(input_ids, inputs_embeds)
        mask, shape = mask_of(input_ids, attention_mask, self.config), given.shape[:2]
        mask = given.new_ones(shape, dtype=torch.bool) if mask is None else mask.bool()
        if mask.shape != shape:
            raise ValueError(f"attention_mask must be {tuple(shape)}, as the words are, got {tuple(mask.shape)}")
        # An LSTM must not read padding before text: real tokens come first, in order, whichever side was padded.
        length = mask.sum(1, keepdim=True)  # (B, 1)
        places = torch.where(mask, mask.cumsum(1), length + (~mask).cumsum(1)) - 1  # (B, T), by no sort: for exporters
        if input_ids is not None:
            given = drop_words(given, self.config.encoder_word_dropout if self.training else 0, self.config)
            states = [self.embed_tokens(torch.zeros_like(given).scatter(1, places, given))]
        else:
            states = [torch.zeros_like(given).scatter(1, places[:, :, None].expand_as(given), given)]
        for layer in self.layers:
            found, length = self.run(layer, states[-1], length)
            states.append(found)
        pooled = self.pooling(states[-1], _within(length, states[-1]))
        if pooled.ndim != 2:
            raise ValueError(
                f"pooling_mode {self.config.pooling_mode!r} must give one vector a text, (B, H), from states "
                f"{tuple(states[-1].shape)}, and gave {tuple(pooled.shape)}"
            )
        return tuple(states), pooled

    @staticmethod
    def make_layers(input_size: int, hidden_size: int, config: Any) -> nn.ModuleList:
        """The layers over words `input_size` wide, the last of which is `hidden_size` wide."""
        return lstm_layers(input_size, hidden_size, config.num_hidden_layers)

    def run(self, layer: Any, states: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's states of those before it (B, T, .), and how many of them are of the text, (B, 1)."""
        return run_layer(layer, states)[0], length


class StridedBlock(nn.Module):
    """relu(LayerNorm(c)), where c is a convolution over three states at every second of them."""

    def __init__(self, input_size: int, width: int):
        super().__init__()
        self.convolution = nn.Conv1d(input_size, width, 3, stride=2, padding=1)
        self.normalise = nn.LayerNorm(width, elementwise_affine=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """States (B, T, .) -> (B, T / 2 rounded up, width)."""
        return torch.relu(self.normalise(self.convolution(states.transpose(1, 2)).transpose(1, 2)))


class ConvolutionalEncoder(SeqVAEEncoder):
    """Reads by convolutions, each of which halves the number of states (Semeniuta et al. 2017), then pools them.

    Their widths double up to that of the last. What stands behind a text is zero before each of them, as what stands
    before it.
    """

    title = "a convolutional encoder"
    largest = 4.0  # standard deviations, to which the states are normalised

    @staticmethod
    def require(config: Any) -> None:
        halved(config.encoder_hidden_size, config.conv_layers, "encoder_hidden_size")

    @staticmethod
    def make_layers(input_size: int, hidden_size: int, config: Any) -> nn.ModuleList:
        sizes = [input_size, *reversed(halved(hidden_size, config.conv_layers, "encoder_hidden_size"))]
        return nn.ModuleList(StridedBlock(*pair) for pair in pairwise(sizes))

    def run(self, layer: Any, states: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states = states * _within(length, states)[:, :, None]
        if torch.compiler.is_exporting():  # exporters take a single state for another case than several
            states = F.pad(states, (0, 0, 0, 2))
        return layer(states), (length + 1) // 2


class NoEncoder(nn.Module):
    """Stands in for the encoder of a language model (latent_size 0): no parameters, latents of no dimensions."""

    main_input_name = "input_ids"

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **unused: Any,
    ) -> SeqVAEEncoderOutput:
        tokens = words_given(input_ids, inputs_embeds)
        nothing = torch.empty(tokens.shape[0], 0, device=tokens.device)
        return SeqVAEEncoderOutput(last_hidden_state=nothing[:, None], latents=nothing, kl=nothing.sum(-1))


def _within(length: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Which of states (B, T, .) are of the text, (B, T), where it has length (B, 1)."""
    return torch.arange(states.shape[1], device=states.device) < length


def _reads_for_all(part: Any) -> bool:
    """Whether what a subclass does is done wherever a text is read: features and likelihoods come from `read` alone."""
    same = (getattr(part, name, None) is getattr(SeqVAEEncoder, name) for name in ("forward", "output"))
    return subclass_of(SeqVAEEncoder)(part) and all(same)


ENCODERS.fits = _reads_for_all
ENCODERS.update({"lstm": SeqVAEEncoder, "convolutional": ConvolutionalEncoder})
