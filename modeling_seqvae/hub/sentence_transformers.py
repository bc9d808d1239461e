"""Our checkpoints in sentence-transformers: its evaluators and semantic search on an encoder's features.

Needs sentence-transformers: `pip install 'seqvae[sentence-transformers]'`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from transformers import PreTrainedTokenizerBase

from ..data.files import write_json
from ..sharing import SENTENCE_FEATURES, sentence_files
from ..text import SeqVAE
from ..text_batches import read_features
from ..tokenization import WHITE_SPACE

try:
    from sentence_transformers.base.modules import InputModule
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("this needs sentence-transformers: pip install sentence-transformers") from error


class SeqVAEModule(InputModule):
    """The one module of a SentenceTransformer: tokens -> features of a sequence VAE's encoder, (B, D).

    `features` is "mean" (Z), "mean_variance" (2Z), "centre" (Z) or "pooled" (H), as in SeqVAE.encode. Gradients reach
    the encoder, so that sentence-transformers' trainer can go on with it. Raises ValueError for other features, and for
    a language model, which has none.
    """

    config_file_name = SENTENCE_FEATURES
    config_keys = ["features"]

    def __init__(self, vae: SeqVAE, features: str = "mean"):
        super().__init__()
        vae.encode([], features)  # refuses what has no such features
        self.vae, self.features = vae, features
        self.model = vae.model  # what moves between devices, is trained and saved
        self.tokenizer: PreTrainedTokenizerBase = vae.tokenizer
        self.max_seq_length = min(vae.tokenizer.model_max_length, 1 << 20)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        *,
        trust_remote_code: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        **unused: Any,
    ) -> Self:
        """The module of a checkpoint's folder or model id, with the features that `export` chose, or else the mean."""
        where: dict[str, Any] = {
            "subfolder": subfolder,
            "token": token,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        config = cls.load_config(model_name_or_path, cache_folder=cache_folder, **where)
        given = {**where, "trust_remote_code": trust_remote_code}
        hub = {name: value for name, value in given.items() if value} | dict(model_kwargs or {})
        return cls(SeqVAE.from_pretrained(model_name_or_path, cache_dir=cache_folder, **hub), **config)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **unused: Any) -> dict[str, Any]:
        """`<s> x_1 ... x_n </s>` of each text, (B, T), cut to `max_seq_length` tokens."""
        texts = [text.strip(WHITE_SPACE) for text in self._prepend_prompt(list(inputs), prompt or "")]  # as everywhere
        encoded = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self.max_seq_length,
            padding_side="right",
            return_tensors="pt",
        )
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    def forward(self, features: dict[str, Any], **unused: Any) -> dict[str, Any]:
        ids, mask = features["input_ids"], features["attention_mask"]
        features["sentence_embedding"] = read_features(self.model, ids, mask, self.features)
        return features

    def get_embedding_dimension(self) -> int:
        return len(self.vae.feature_names(self.features))

    def save(self, output_path: str, *args: Any, **unused: Any) -> None:
        self.vae.save_pretrained(output_path)
        self.save_config(output_path)


def export(checkpoint: str | os.PathLike[str], features: str = "mean") -> list[str]:
    """Put beside a checkpoint's weights what `SentenceTransformer(folder, trust_remote_code=True)` reads.

    Returns the names of the files, which travel with the folder to the hub. The checkpoint stays one of ours.
    sentence-transformers asks for `trust_remote_code` for every module that is not its own; here it runs this package,
    which must be installed, and modules of parts of its owner's, if the checkpoint carries any. Raises
    FileNotFoundError where there is no checkpoint, and ValueError for other features and language models.
    """
    SeqVAEModule(SeqVAE.from_pretrained(checkpoint), features)  # refuses what would not load
    files = sentence_files(features)
    for name, content in files.items():
        write_json(Path(checkpoint) / name, content)
    return list(files)


__all__ = ["SeqVAEModule", "export"]
