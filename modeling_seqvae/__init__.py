"""Sequence VAEs on text, with encoders that pool against posterior collapse (Long, Cao and Cheung 2019)."""

from importlib import import_module
from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

from .configuration_seqvae import SeqVAEConfig
from .modeling_seqvae import SeqVAEForTextModeling, SeqVAEModel
from .pipelines import register_pipelines
from .text import SeqVAE

__version__ = "0.1.0"

AutoConfig.register("seqvae", SeqVAEConfig, exist_ok=True)
AutoModel.register(SeqVAEConfig, SeqVAEModel, exist_ok=True)
AutoModelForSeq2SeqLM.register(SeqVAEConfig, SeqVAEForTextModeling, exist_ok=True)
register_pipelines()

_ON_DEMAND = {
    "SeqVAETrainer": ".training.trainer",
    "SeqVAEVectorizer": ".evaluation.sklearn",
    "prepare_tokenizer": ".data.subwords",
    "train_bpe_tokenizer": ".data.subwords",
    "train_tokenizer": ".tokenization",
}
"""Names whose modules bring datasets, accelerate or scikit-learn along: imported when first asked for."""

__all__ = ["SeqVAE", "SeqVAEConfig", "SeqVAEForTextModeling", "SeqVAEModel", *_ON_DEMAND]


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ON_DEMAND[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
