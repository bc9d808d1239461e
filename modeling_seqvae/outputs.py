"""What the model returns, and the recurrent state that generation carries along.

Letters in shapes: B sentences, T tokens, H hidden, Z latent, V vocabulary, L layers.
"""

import sys
from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils import ModelOutput

CACHE_NAME = next(field.name for field in fields(Seq2SeqLMOutput) if field.name in ("cache", "past_key_values"))
"""What this transformers calls a decoder's state: `past_key_values` before 5.24, then `cache`, as it is called here."""


class SeqVAECache:
    """The decoder's state: what keys and values are to an attention model. Its size does not grow with the sentence.

    Of an LSTM hidden and cell are (L, B, H). Of a dilated CNN hidden is (1, B, .), what its layers look back on, and
    cell is empty; a decoder that reads no words has both empty.
    """

    # What `generate` asks of every cache. "Linear" would mean that the number of tokens read is not known.
    is_compileable = False
    is_croppable = False
    is_linear = (False,)

    def __init__(self, hidden: torch.Tensor, cell: torch.Tensor, seen_tokens: int = 0):
        self.hidden = hidden
        self.cell = cell
        self.seen_tokens = seen_tokens

    def __len__(self) -> int:
        """How many sentences."""
        return self.hidden.shape[1]

    def __getitem__(self, sentence: int) -> "SeqVAECache":
        """The state of one sentence. Pipelines split a batch, and leave whole only what transformers calls a cache."""
        rows = [range(len(self))[sentence]]
        return SeqVAECache(self.hidden[:, rows], self.cell[:, rows], self.seen_tokens)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens read so far."""
        return self.seen_tokens

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keep the states of the beams (B,) that were selected, in place."""
        self.hidden = self.hidden.index_select(1, beam_idx.to(self.hidden.device))
        self.cell = self.cell.index_select(1, beam_idx.to(self.cell.device))


class CachedOutput(ModelOutput):
    """An output whose `cache` is also `past_key_values`, by which `generate` reads it before transformers 5.24."""

    cache: SeqVAECache | None

    @property
    def past_key_values(self) -> SeqVAECache | None:
        return self.cache

    def __contains__(self, key: object) -> bool:
        return super().__contains__(_present_name(key))

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(_present_name(key))

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_present_name(key), default)


def _present_name(key: Any) -> Any:
    return "cache" if key == "past_key_values" else key


def one_cache(cache: SeqVAECache | None, past_key_values: SeqVAECache | None) -> SeqVAECache | None:
    """The decoder's state by whichever of its names it was given. Raises ValueError where both were."""
    if cache is not None and past_key_values is not None:
        raise ValueError("give the decoder's state as cache or as past_key_values, its earlier name, not as both")
    return past_key_values if cache is None else cache


@dataclass
class SeqVAEEncoderOutput(ModelOutput):
    """What the encoder made of a batch.

    last_hidden_state (B, T, H), the LSTM's states, or fewer than T of a convolutional encoder; latents (B, Z), the
    posterior's mean or a draw; kl (B,) in nats, and kl_per_dimension (B, Z), None for a posterior whose dimensions are
    not independent; pooled (B, H), the features h_x; hidden_states, the embeddings and each layer's states;
    flow_inputs (B, K, Z), what each of K flows of the posterior was given.
    """

    last_hidden_state: torch.Tensor | None = None
    latents: torch.Tensor | None = None
    kl: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    flow_inputs: torch.Tensor | None = None
    kl_per_dimension: torch.Tensor | None = None


@dataclass
class SeqVAEModelOutput(CachedOutput):
    """Decoder states and everything the loss needs.

    last_hidden_state (B, T, H), the decoder's states, or (B, 1, Z) where a `unigram` decoder has one for all tokens;
    latents (B, Z); kl (B,) in nats; kl_per_dimension (B, Z); pooled (B, H); flow_inputs (B, K, Z).
    """

    last_hidden_state: torch.Tensor | None = None
    latents: torch.Tensor | None = None
    kl: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    cache: SeqVAECache | None = None
    decoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    encoder_last_hidden_state: torch.Tensor | None = None
    encoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    flow_inputs: torch.Tensor | None = None
    kl_per_dimension: torch.Tensor | None = None


@dataclass
class SeqVAETextModelingOutput(CachedOutput):
    """The objective, its parts, and the logits.

    loss (), mean over sentences of reconstruction + kl_weight * kl; reconstruction_loss (B,) and kl (B,), nats per
    sentence; kl_per_dimension (B, Z); logits (B, T, V); latents (B, Z); pooled (B, H); flow_inputs (B, K, Z);
    auxiliary_loss (B,), what training adds to the loss and nothing else, weighted, in nats: None where there is none.

    transformers' LabelSmoother, which a Trainer calls where `label_smoothing_factor` is set, is refused with a
    ValueError.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    reconstruction_loss: torch.Tensor | None = None
    kl: torch.Tensor | None = None
    latents: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    cache: SeqVAECache | None = None
    decoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    encoder_last_hidden_state: torch.Tensor | None = None
    encoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    flow_inputs: torch.Tensor | None = None
    kl_per_dimension: torch.Tensor | None = None
    auxiliary_loss: torch.Tensor | None = None

    def __getitem__(self, key: Any) -> Any:
        if key == "logits" and sys._getframe(1).f_code.co_qualname == "LabelSmoother.__call__":
            raise ValueError(
                "label_smoothing_factor must be 0 for a SeqVAE: transformers' LabelSmoother compares a prediction with "
                "the word just read, not with the next one, and leaves out the KL. To smooth labels, give the Trainer "
                "a compute_loss_func: it gets logits (B, T, V), kl (B,) and labels"
            )
        return super().__getitem__(key)
