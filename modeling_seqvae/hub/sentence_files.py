"""The files by which sentence-transformers knows a checkpoint of ours; writing them does not need it."""

from typing import Any

CONFIG = "sentence_seqvae_config.json"
"""Which features a checkpoint gives; beside its config.json, since the module lies in the checkpoint's own folder."""

MODULES = [{"idx": 0, "name": "0", "path": "", "type": "modeling_seqvae.hub.sentence_transformers.SeqVAEModule"}]
SETTINGS: dict[str, Any] = {
    "model_type": "SentenceTransformer",
    "prompts": {},
    "default_prompt_name": None,
    "similarity_fn_name": None,
}


def sentence_files(features: str) -> dict[str, Any]:
    """Names and content, as JSON, of the files that make a checkpoint give these features."""
    return {
        CONFIG: {"features": features},
        "config_sentence_transformers.json": SETTINGS,
        "modules.json": MODULES,  # last: it is what says that the others are there
    }
