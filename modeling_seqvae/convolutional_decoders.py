"""Decoders with convolutions: over the last words (dilated CNN), or of z under an LSTM (hybrid).

Letters in shapes as in `decoders`.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .decoders import Decoder, LSTMDecoder, layer_nll
from .kernels import Dropout, is_bare
from .outputs import SeqVAECache
from .registry import DECODERS

KERNEL = 3
"""Tokens that a convolution of a dilated CNN reads, as far apart as its dilation; what a deconvolution writes."""
CNN_SIZES = {"small": (1, 2, 4), "medium": (1, 2, 4, 8, 16), "large": (1, 2, 4, 8, 16) * 2}
"""The values of `SeqVAEConfig.cnn_size`: the blocks' dilations. A prediction depends on 15, 63 or 125 tokens."""


NARROWEST = 4
"""States of a convolution, at least: normalised, one number is always 0, and two are but a sign."""


def halved(width: int, times: int, field: str) -> list[int]:
    """A width, and half of the one before for each further convolution. Raises ValueError for fewer than NARROWEST."""
    widths = [width >> below for below in range(times)]
    if widths[-1] < NARROWEST:
        raise ValueError(
            f"conv_layers={times} makes of {field}={width} a layer of {widths[-1]} states, and {NARROWEST} are the "
            "least: normalised, fewer say next to nothing. Take fewer layers, or wider ones"
        )
    return widths


class Deconvolution(nn.Module):
    """What transposed convolutions of z write at each position: blocks of states, doubled by each of the layers.

    Position p depends on z and p alone, however many positions are asked for; behind the last one are zeros.
    """

    def __init__(self, config: Any):
        super().__init__()
        layers = config.conv_layers
        self.length = config.deconv_length
        self.width = config.hidden_size
        sizes = [*halved(self.width, layers, "hidden_size"), config.embedding_size]
        self.blocks = nn.Linear(config.latent_size, (-(-self.length >> layers) + 1) * self.width)
        pairs = list(pairwise(sizes))
        self.layers: Any = nn.ModuleList(
            nn.ConvTranspose1d(*pair, KERNEL, stride=2, padding=1, output_padding=1) for pair in pairs
        )
        self.norms: Any = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _, width in pairs)

    def forward(self, latents: torch.Tensor, count: int) -> torch.Tensor:
        """States (B, count, E) of the first positions, from latents (B, Z)."""
        wanted = min(count, self.length)
        needed = [wanted]  # by layer, from the last: two of its states are made of one before them and the next
        for _ in self.layers:
            needed.append(needed[-1] // 2 + 1)
        rows = needed[-1] * self.width
        if is_bare(self.blocks, nn.Linear):
            states = F.linear(latents, self.blocks.weight[:rows], self.blocks.bias[:rows])
        else:
            states = self.blocks(latents)[:, :rows]
        states = torch.relu(states).unflatten(1, (-1, self.width))
        for layer, norm, length in zip(self.layers, self.norms, reversed(needed[:-1]), strict=True):
            states = torch.relu(norm(layer(states.transpose(1, 2)).transpose(1, 2)[:, :length]))
        return F.pad(states, (0, 0, 0, count - wanted))


class HybridDecoder(LSTMDecoder):
    """An LSTM over the words and what a deconvolution of z has written at each position (Semeniuta et al. 2017).

    z reaches the LSTM by no other way. In training the deconvolution also has to predict the words by itself, which
    `auxiliary_loss` weights; p(x|z) is the LSTM's alone.
    """

    title = "a decoder of deconvolutions under an LSTM"
    starts_from_latent = False
    word_layers = ("auxiliary",)

    @staticmethod
    def require(config: Any) -> None:
        if config.latent_size == 0:
            raise ValueError(
                "decoder='hybrid' writes from z: latent_size cannot be 0; its language model is decoder='lstm'"
            )
        if config.decoder_skip:
            raise ValueError("decoder='hybrid' has no skip from z to the vocabulary: decoder_skip cannot be True")
        halved(config.hidden_size, config.conv_layers, "hidden_size")
        halved(config.embedding_size, 1, "embedding_size")

    @staticmethod
    def joining_size(config: Any) -> int:
        return config.embedding_size

    def __init__(self, config: Any):
        super().__init__(config)
        self.deconvolution = Deconvolution(config)
        self.auxiliary = nn.Linear(config.embedding_size, config.vocab_size, bias=False)

    def _from_latents(self, latents: torch.Tensor, place: int, count: int) -> torch.Tensor:
        return self.deconvolution(latents, place + count)[:, place:]

    def auxiliary_loss(
        self, latents: torch.Tensor, targets: torch.Tensor, counted: torch.Tensor
    ) -> torch.Tensor | None:
        """-log p of the words by the deconvolution alone, each from its position, times `auxiliary_weight`: (B,)."""
        within = min(targets.shape[1], self.config.deconv_length)
        states = self.deconvolution(latents, within)
        nll = layer_nll(self.auxiliary, states, targets[:, :within], counted[:, :within])
        return self.config.auxiliary_weight * nll.sum(1)


class ResidualBlock(nn.Module):
    """x + W_2 relu(c), where c is a dilated convolution over relu(W_1 x), which is half as wide."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.narrow = nn.Linear(width, (width + 1) // 2)
        self.convolution = nn.Conv1d((width + 1) // 2, (width + 1) // 2, KERNEL, dilation=dilation)
        self.widen = nn.Linear((width + 1) // 2, width)
        self.before = (KERNEL - 1) * dilation  # tokens that the convolution reads before the one at hand

    def forward(self, states: torch.Tensor, past: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States (B, T, H), and what the next call is given as its past, (B, before, H / 2); zeros before `<s>`."""
        inner = torch.cat([past, torch.relu(self.narrow(states))], 1)
        convolved = torch.relu(self.convolution(inner.transpose(1, 2)).transpose(1, 2))
        return states + self.widen(convolved), inner[:, inner.shape[1] - self.before :]


class DilatedCNNDecoder(Decoder):
    """Predicts each token from the last few and z by residual blocks of dilated convolutions (Yang et al. 2017).

    z joins every input. A prediction depends on z and on as many tokens as `receptive_field` says, which makes z worth
    more than to an LSTM: only it can tell of words before them.
    """

    title = "a decoder of dilated convolutions"
    alone = "A language model of dilated convolutions"

    @staticmethod
    def require(config: Any) -> None:
        if config.decoder_skip:
            raise ValueError("decoder='dilated_cnn' has no skip from z to the vocabulary: decoder_skip cannot be True")
        if config.cnn_size not in CNN_SIZES:
            raise ValueError(f"cnn_size={config.cnn_size!r} is not one of {', '.join(CNN_SIZES)}")

    def __init__(self, config: Any):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size)
        self.embedding_dropout = Dropout(config.embedding_dropout)
        self.output_dropout = Dropout(config.output_dropout)
        self.input = nn.Linear(config.embedding_size + config.latent_size, config.hidden_size)
        self.blocks: Any = nn.ModuleList(ResidualBlock(config.hidden_size, each) for each in CNN_SIZES[config.cnn_size])

    @property
    def receptive_field(self) -> int:
        """Tokens that a prediction depends on."""
        return 1 + sum(block.before for block in self.blocks)

    def forward(
        self,
        latents: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        cache: SeqVAECache | None = None,
    ) -> tuple[tuple[torch.Tensor, ...], SeqVAECache]:
        """Embeddings and each block's states, (B, T, .) each; the cache holds what the blocks read of tokens before."""
        embeds, inputs = self._inputs(latents, input_ids, inputs_embeds)
        states, pasts = [self.input(inputs)], []
        for block, past in zip(self.blocks, self._pasts(embeds, cache), strict=True):
            found, past = block(states[-1], past)
            states.append(found)
            pasts.append(past.flatten(1))
        states[-1] = self.output_dropout(states[-1])
        kept = torch.cat(pasts, 1)[None]  # (1, B, .)
        seen_tokens = embeds.shape[1] + (cache.seen_tokens if cache is not None else 0)
        return (embeds, *states[1:]), SeqVAECache(kept, kept[:0, :, :0], seen_tokens)

    def _pasts(self, like: torch.Tensor, cache: SeqVAECache | None) -> list[torch.Tensor]:
        """What each block is given as its past, (B, before, H / 2)."""
        width = (self.config.hidden_size + 1) // 2
        sizes = [block.before * width for block in self.blocks]
        kept = like.new_zeros(len(like), sum(sizes)) if cache is None else cache.hidden[0].to(like.dtype)
        return [past.unflatten(1, (-1, width)) for past in kept.split(sizes, 1)]


DECODERS.update({"dilated_cnn": DilatedCNNDecoder, "hybrid": HybridDecoder})
