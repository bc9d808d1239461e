"""Sequence VAEs on text that do not collapse: pooling over the encoder's states (Long, Cao and Cheung 2019)."""

from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

from .configuration_seqvae import SeqVAEConfig
from .modeling_seqvae import SeqVAEForTextModeling, SeqVAEModel

__version__ = "0.1.0"

AutoConfig.register("seqvae", SeqVAEConfig, exist_ok=True)
AutoModel.register(SeqVAEConfig, SeqVAEModel, exist_ok=True)
AutoModelForSeq2SeqLM.register(SeqVAEConfig, SeqVAEForTextModeling, exist_ok=True)

__all__ = ["SeqVAEConfig", "SeqVAEForTextModeling", "SeqVAEModel"]
