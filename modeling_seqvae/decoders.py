"""Decoders p(x|z): what every one of them offers, and the names of those there are.

A decoder turns z and the words so far into states, and its vocabulary layer turns states into logits.
Letters in shapes: B sentences, T tokens, E embedding, H hidden, Z latent, V vocabulary, L layers, S latents a sentence.
"""

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .kernels import Dropout, linear_nll, run_layer, states_under_latents, token_nll, upcast
from .outputs import SeqVAECache
from .registry import DECODERS

LOGITS_AT_ONCE = 1 << 24
"""Logits of a unigram decoder made at a time; bounds memory, changes no result."""


KERNEL = 3
"""Tokens that a convolution of a dilated CNN reads, as far apart as its dilation; what a deconvolution writes."""
CNN_SIZES = {"small": (1, 2, 4), "medium": (1, 2, 4, 8, 16), "large": (1, 2, 4, 8, 16) * 2}
"""The values of `SeqVAEConfig.cnn_size`: the blocks' dilations. A prediction depends on 15, 63 or 125 tokens."""


def lstm_layers(input_size: int, hidden_size: int, count: int) -> nn.ModuleList:
    """`count` LSTM layers, kept apart so that the states of each can be returned."""
    sizes = [input_size] + [hidden_size] * (count - 1)
    return nn.ModuleList(nn.LSTM(size, hidden_size, batch_first=True) for size in sizes)


def drop_words(input_ids: torch.Tensor, config: Any) -> torch.Tensor:
    """Ids (B, T) in which every word but `<s>` has become the unknown token with probability word_dropout."""
    if config.word_dropout == 0:
        return input_ids
    dropped = torch.rand(input_ids.shape, device=input_ids.device) < config.word_dropout
    return input_ids.masked_fill(dropped & (input_ids != config.bos_token_id), config.unk_token_id)


class Decoder(nn.Module, ABC):
    """What every decoder offers; a subclass overrides what differs.

    `embed_tokens` are its word embeddings, None for a decoder that reads no words; `embedding_dropout` is what they
    pass through.
    """

    config: Any
    embed_tokens: Any
    embedding_dropout: Any
    title = "a decoder"
    """What it is, in a model card's sentence."""
    alone = "A language model"
    """What it is without a latent, at the beginning of one."""
    word_layers: tuple[str, ...] = ()
    """Its linear layers with a row for each word, by name, beside the vocabulary layer."""

    @staticmethod
    def require(config: Any) -> None:
        """Raise ValueError for a configuration that this decoder cannot have, which names the field."""

    @staticmethod
    def vocabulary_layer(config: Any) -> nn.Linear:
        """The layer that turns this decoder's states into logits."""
        return nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @abstractmethod
    def forward(
        self,
        latents: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        cache: SeqVAECache | None = None,
    ) -> tuple[tuple[torch.Tensor, ...], SeqVAECache]:
        """The states of input_ids (B, T) given latents (B, Z), a tuple with a tensor a layer, and the cache after them.

        The last entry is what the vocabulary layer reads: (B, T, H), or (B, 1, .) where all positions have one state.
        """

    @staticmethod
    def given(input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
        """The words that are read, embeddings (B, T, E) or else ids (B, T). Raises ValueError where there are none."""
        words = input_ids if inputs_embeds is None else inputs_embeds
        if words is None:
            raise ValueError("give the decoder either decoder_input_ids or decoder_inputs_embeds")
        return words

    def _inputs(
        self, latents: torch.Tensor, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None, place: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The words' embeddings (B, T, E), in training after word dropout; and these after dropout joined by z.

        `place` is how many words the decoder has read before.
        """
        embeds = self.given(input_ids, inputs_embeds)
        if inputs_embeds is None:
            embeds = self.embed_tokens(drop_words(embeds, self.config) if self.training else embeds)
        from_latents = self._from_latents(latents.to(embeds.dtype), place, embeds.shape[1])
        return embeds, torch.cat([self.embedding_dropout(embeds), from_latents], -1)  # (B, T, E + Z)

    def _from_latents(self, latents: torch.Tensor, place: int, count: int) -> torch.Tensor:
        """What joins each of `count` words from `place` on: z, (B, count, Z)."""
        return latents[:, None].expand(-1, count, -1)

    def auxiliary_loss(
        self, latents: torch.Tensor, targets: torch.Tensor, counted: torch.Tensor
    ) -> torch.Tensor | None:
        """What training adds to the loss of each sentence given latents (B, Z), (B,), and no likelihood has: None here.

        `targets` are what is predicted, (B, T - 1), and `counted` which of it counts.
        """
        return None

    def states_under(self, latents: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        """What the vocabulary layer reads, (S * B, T, H), for input_ids (B, T) under each of latents (S, B, Z)."""
        return self(latents.flatten(0, 1), input_ids.repeat(len(latents), 1))[0][-1]

    def nll(
        self,
        vocabulary_layer: Any,
        states: torch.Tensor,
        targets: torch.Tensor,
        counted: torch.Tensor,
        logits: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """-log p of each token after the first given z, in nats, (B, T - 1): 0 where `counted` (B, T - 1) is false.

        `states` (B, T, .), and `logits` (B, T, V) where they have been made, stand at the tokens before; `targets` are
        (B, T - 1).
        """
        if logits is None and type(vocabulary_layer) is nn.Linear and vocabulary_layer.bias is None:
            return linear_nll(states[:, :-1], vocabulary_layer.weight, targets, counted)
        # A layer that someone has wrapped or replaced is called, not taken apart.
        logits = vocabulary_layer(states) if logits is None else logits
        return token_nll(logits[:, :-1], targets, counted)


class LSTMDecoder(Decoder):
    """Predicts each token from the ones before and z, which starts the LSTM and joins every input."""

    title = "an LSTM decoder"
    alone = "An LSTM language model"
    starts_from_latent = True
    """Whether z gives the LSTM's initial state."""

    @staticmethod
    def joining_size(config: Any) -> int:
        """The width of what joins each word."""
        return config.latent_size

    def __init__(self, config: Any):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size)
        self.embedding_dropout = Dropout(config.embedding_dropout)
        self.output_dropout = Dropout(config.output_dropout)
        self.layers: Any = lstm_layers(
            config.embedding_size + self.joining_size(config), config.hidden_size, config.num_hidden_layers
        )
        if config.latent_size > 0 and self.starts_from_latent:
            self.initial_cell = nn.Linear(config.latent_size, config.num_hidden_layers * config.hidden_size, bias=False)
        if config.decoder_skip:
            self.skip_state = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
            self.skip_latent = nn.Linear(config.latent_size, config.hidden_size, bias=False)

    def initial_state(self, latents: torch.Tensor) -> SeqVAECache:
        """c_0 = W z and h_0 = tanh(c_0) for every layer; zeros where z gives none. latents (B, Z)."""
        layers, hidden_size = self.config.num_hidden_layers, self.config.hidden_size
        if self.config.latent_size == 0 or not self.starts_from_latent:
            zeros = latents.new_zeros(layers, latents.shape[0], hidden_size)
            return SeqVAECache(zeros, zeros)
        cell = self.initial_cell(latents).unflatten(-1, (layers, hidden_size)).transpose(0, 1).contiguous()
        return SeqVAECache(cell.tanh(), cell)

    def forward(
        self,
        latents: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        cache: SeqVAECache | None = None,
    ) -> tuple[tuple[torch.Tensor, ...], SeqVAECache]:
        """Embeddings and each layer's states, (B, T, .) each, and the state after the last token.

        The last entry is what the vocabulary layer reads: dropout, and the skip connection if there is one, included.
        """
        embeds, inputs = self._inputs(latents, input_ids, inputs_embeds, cache.seen_tokens if cache else 0)
        latents = latents.to(embeds.dtype)
        past = self.initial_state(latents) if cache is None else cache
        states, hidden, cell = [inputs], [], []
        for index, layer in enumerate(self.layers):
            start = (past.hidden[index : index + 1].contiguous(), past.cell[index : index + 1].contiguous())
            output, (last_hidden, last_cell) = run_layer(layer, states[-1], start)
            states.append(output)
            hidden.append(last_hidden)
            cell.append(last_cell)
        states[-1] = self._for_vocabulary(states[-1], latents)
        seen_tokens = past.seen_tokens + embeds.shape[1]
        return (embeds, *states[1:]), SeqVAECache(torch.cat(hidden), torch.cat(cell), seen_tokens)

    def states_under(self, latents: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        """What the vocabulary layer reads, (S * B, T, H), for input_ids (B, T) under each of latents (S, B, Z)."""
        if self.training:  # dropout's masks are a latent's own
            return super().states_under(latents, input_ids)
        flat = latents.flatten(0, 1)
        start = self.initial_state(flat)
        first = (start.hidden[0], start.cell[0])
        states = states_under_latents(self.layers[0], self.embed_tokens(input_ids), latents, first).flatten(0, 1)
        for layer, *state in zip(self.layers[1:], start.hidden[1:, None], start.cell[1:, None], strict=True):
            states = layer(states, state)[0]
        return self._for_vocabulary(states, flat)

    def _for_vocabulary(self, states: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        if self.config.decoder_skip:
            states = torch.tanh(self.skip_state(states) + self.skip_latent(latents)[:, None])
        return self.output_dropout(states)


class Deconvolution(nn.Module):
    """What transposed convolutions of z write at each position: blocks of states, doubled by each of the layers.

    Position p depends on z and p alone, however many positions are asked for; behind the last one are zeros.
    """

    def __init__(self, config: Any):
        super().__init__()
        layers = config.conv_layers
        self.length = config.deconv_length
        self.width = config.hidden_size
        sizes = [self.width, *(max(1, self.width >> level) for level in range(1, layers)), config.embedding_size]
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
        states = torch.relu(F.linear(latents, self.blocks.weight[:rows], self.blocks.bias[:rows]))
        states = states.unflatten(1, (-1, self.width))
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

    @staticmethod
    def joining_size(config: Any) -> int:
        return config.embedding_size

    def __init__(self, config: Any):
        super().__init__(config)
        self.deconvolution = Deconvolution(config)
        self.auxiliary = nn.Linear(config.embedding_size, config.vocab_size, bias=False)

    def _from_latents(self, latents: torch.Tensor, place: int, count: int) -> torch.Tensor:
        return self.deconvolution(latents, place + count)[:, place:]

    def states_under(self, latents: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        return Decoder.states_under(self, latents, input_ids)

    def auxiliary_loss(
        self, latents: torch.Tensor, targets: torch.Tensor, counted: torch.Tensor
    ) -> torch.Tensor | None:
        """-log p of the words by the deconvolution alone, each from its position, times `auxiliary_weight`: (B,)."""
        within = min(targets.shape[1], self.config.deconv_length)
        states = self.deconvolution(latents, within)
        nll = linear_nll(states, self.auxiliary.weight, targets[:, :within], counted[:, :within])
        return self.config.auxiliary_weight * nll.sum(1)


class UnigramDecoder(Decoder):
    """Draws every token from softmax(W z + b), whatever the words before: a neural topic model (Miao et al. 2016).

    p(x|z) = prod_t softmax(W z + b)[x_t] over the words and `</s>`. Only z can tell it anything, so that z holds what
    the whole sentence is about; the pretraining of Bosc and Vincent (2020). One softmax a sentence: its state is z.
    """

    title = "a unigram decoder (which reads no words)"

    @staticmethod
    def require(config: Any) -> None:
        for field, value in (("latent_size", 0), ("decoder_skip", True), ("tie_word_embeddings", True)):
            if getattr(config, field) == value:
                raise ValueError(f"decoder='unigram' reads z and no words, so {field} cannot be {value}")

    @staticmethod
    def vocabulary_layer(config: Any) -> nn.Linear:
        return nn.Linear(config.latent_size, config.vocab_size)

    def __init__(self, config: Any):
        super().__init__()
        self.embed_tokens = None

    def forward(
        self,
        latents: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        cache: SeqVAECache | None = None,
    ) -> tuple[tuple[torch.Tensor, ...], SeqVAECache]:
        words = self.given(input_ids, inputs_embeds)
        seen_tokens = words.shape[1] + (cache.seen_tokens if cache else 0)
        nothing = latents.new_empty(0, latents.shape[0], 0)
        return (latents[:, None],), SeqVAECache(nothing, nothing, seen_tokens)

    def nll(
        self,
        vocabulary_layer: Any,
        states: torch.Tensor,
        targets: torch.Tensor,
        counted: torch.Tensor,
        logits: torch.Tensor | None = None,
    ) -> torch.Tensor:
        words = targets.masked_fill(~counted, 0)  # -100 is no token
        rows = max(1, LOGITS_AT_ONCE // vocabulary_layer.out_features)
        parts = zip(states[:, 0].split(rows), words.split(rows), strict=True)
        found = [upcast(vocabulary_layer(z)).log_softmax(-1).gather(1, word) for z, word in parts]
        return -torch.cat(found).masked_fill(~counted, 0)  # (B, T - 1)


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
        seen_tokens = embeds.shape[1] + (cache.seen_tokens if cache else 0)
        return (embeds, *states[1:]), SeqVAECache(kept, kept[:0, :, :0], seen_tokens)

    def _pasts(self, like: torch.Tensor, cache: SeqVAECache | None) -> list[torch.Tensor]:
        """What each block is given as its past, (B, before, H / 2)."""
        width = (self.config.hidden_size + 1) // 2
        sizes = [block.before * width for block in self.blocks]
        kept = like.new_zeros(len(like), sum(sizes)) if cache is None else cache.hidden[0].to(like.dtype)
        return [past.unflatten(1, (-1, width)) for past in kept.split(sizes, 1)]


DECODERS.update(
    {"lstm": LSTMDecoder, "unigram": UnigramDecoder, "dilated_cnn": DilatedCNNDecoder, "hybrid": HybridDecoder}
)
