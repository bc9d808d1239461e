"""Decoders p(x|z): what every one of them offers, and those without convolutions.

A decoder turns z and the words so far into states, and its vocabulary layer turns states into logits.
Letters in shapes: B sentences, T tokens, E embedding, H hidden, Z latent, V vocabulary, L layers, S latents a sentence.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from .kernels import Dropout, is_bare, linear_nll, run_layer, states_under_latents, token_nll, upcast
from .outputs import SeqVAECache
from .registry import DECODERS, subclass_of

LOGITS_AT_ONCE = 1 << 24
"""Logits of a unigram decoder made at a time; bounds memory, changes no result."""


def lstm_layers(input_size: int, hidden_size: int, count: int) -> nn.ModuleList:
    """`count` LSTM layers, kept apart so that the states of each can be returned."""
    sizes = [input_size] + [hidden_size] * (count - 1)
    return nn.ModuleList(nn.LSTM(size, hidden_size, batch_first=True) for size in sizes)


def words_given(input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None, prefix: str = "") -> torch.Tensor:
    """The words to read, ids (B, T) or embeddings (B, T, E). Raises ValueError for none, and for both."""
    if input_ids is not None and inputs_embeds is None:
        return input_ids
    if inputs_embeds is not None and input_ids is None:
        return inputs_embeds
    raise ValueError(f"give either {prefix}input_ids or {prefix}inputs_embeds")


def drop_words(input_ids: torch.Tensor, rate: float, config: Any) -> torch.Tensor:
    """Ids (B, T) in which a word has become the unknown token with probability `rate`; `<s>`, `</s>`, padding stay."""
    if rate == 0:
        return input_ids
    dropped = torch.rand(input_ids.shape, device=input_ids.device) < rate
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    for kept in (config.bos_token_id, config.pad_token_id, *ends):
        if kept is not None:
            dropped &= input_ids != kept
    return input_ids.masked_fill(dropped, config.unk_token_id)


def layer_nll(layer: Any, states: torch.Tensor, targets: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """-log p of targets (B, T) by the logits of a layer over the vocabulary, in nats, (B, T): 0 where not counted."""
    if is_bare(layer, nn.Linear) and layer.bias is None:
        return linear_nll(states, layer.weight, targets, counted)
    # A layer that someone has wrapped or replaced is called, not taken apart.
    return token_nll(layer(states), targets, counted)


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

    def _inputs(
        self, latents: torch.Tensor, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None, place: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The words' embeddings (B, T, E), in training after word dropout; and these after dropout joined by z.

        `place` is how many words the decoder has read before.
        """
        embeds = words_given(input_ids, inputs_embeds, "decoder_")
        if inputs_embeds is None:
            rate = self.config.word_dropout if self.training else 0
            embeds = self.embed_tokens(drop_words(embeds, rate, self.config))
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
        if logits is None:
            return layer_nll(vocabulary_layer, states[:, :-1], targets, counted)
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
        embeds, inputs = self._inputs(latents, input_ids, inputs_embeds, cache.seen_tokens if cache is not None else 0)
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
        # Dropout's masks are a latent's own; below there are no gradients, nor what a subclass or a hook does.
        if self.training or torch.is_grad_enabled() or not is_bare(self, LSTMDecoder):
            return super().states_under(latents, input_ids)
        flat = latents.flatten(0, 1)
        start = self.initial_state(flat)
        first = (start.hidden[0], start.cell[0])
        states = states_under_latents(self.layers[0], self.embed_tokens(input_ids), latents, first).flatten(0, 1)
        for layer, *state in zip(self.layers[1:], start.hidden[1:, None], start.cell[1:, None], strict=True):
            states = run_layer(layer, states, (state[0], state[1]))[0]
        return self._for_vocabulary(states, flat)

    def _for_vocabulary(self, states: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        if self.config.decoder_skip:
            states = torch.tanh(self.skip_state(states) + self.skip_latent(latents)[:, None])
        return self.output_dropout(states)


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
        words = words_given(input_ids, inputs_embeds, "decoder_")
        seen_tokens = words.shape[1] + (cache.seen_tokens if cache is not None else 0)
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


DECODERS.fits = subclass_of(Decoder)
DECODERS.update({"lstm": LSTMDecoder, "unigram": UnigramDecoder})
