"""What the model returns, and the recurrent state that generation carries along.

Letters in shapes: B sentences, T tokens, H hidden, Z latent, V vocabulary, L layers.
"""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


class SeqVAECache:
    """The decoder's recurrent state: what `past_key_values` is to an attention model.

    hidden and cell are (L, B, H). Its size does not grow with the sentence.
    """

    is_compileable = False

    def __init__(self, hidden: torch.Tensor, cell: torch.Tensor, seen_tokens: int = 0):
        self.hidden = hidden
        self.cell = cell
        self.seen_tokens = seen_tokens

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens read so far."""
        return self.seen_tokens

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keep the states of the beams (B,) that were selected, in place."""
        self.hidden = self.hidden.index_select(1, beam_idx.to(self.hidden.device))
        self.cell = self.cell.index_select(1, beam_idx.to(self.cell.device))


@dataclass
class SeqVAEEncoderOutput(ModelOutput):
    """What the encoder made of a batch.

    last_hidden_state (B, T, H), the LSTM's states; latents (B, Z), the posterior's mean or a draw; kl (B,) in nats;
    pooled (B, H), the features h_x; hidden_states, the embeddings and each layer's states; flow_inputs (B, K, Z), what
    each of K flows of the posterior was given.
    """

    last_hidden_state: torch.Tensor | None = None
    latents: torch.Tensor | None = None
    kl: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    flow_inputs: torch.Tensor | None = None


@dataclass
class SeqVAEModelOutput(ModelOutput):
    """Decoder states and everything the loss needs.

    last_hidden_state (B, T, H), the decoder's states; latents (B, Z); kl (B,) in nats; pooled (B, H); flow_inputs
    (B, K, Z).
    """

    last_hidden_state: torch.Tensor | None = None
    latents: torch.Tensor | None = None
    kl: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    past_key_values: SeqVAECache | None = None
    decoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    encoder_last_hidden_state: torch.Tensor | None = None
    encoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    flow_inputs: torch.Tensor | None = None


@dataclass
class SeqVAETextModelingOutput(ModelOutput):
    """The objective, its parts, and the logits.

    loss (), mean over sentences of reconstruction + kl_weight * kl; reconstruction_loss (B,) and kl (B,), nats per
    sentence; logits (B, T, V); latents (B, Z); pooled (B, H); flow_inputs (B, K, Z).
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    reconstruction_loss: torch.Tensor | None = None
    kl: torch.Tensor | None = None
    latents: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    past_key_values: SeqVAECache | None = None
    decoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    encoder_last_hidden_state: torch.Tensor | None = None
    encoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    flow_inputs: torch.Tensor | None = None
