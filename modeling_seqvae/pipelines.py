"""Tasks of transformers' `pipeline`: "seqvae-features", texts to vectors, and "seqvae-generation", texts to texts."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .argument_checks import one_of
from .generation import with_defaults
from .sharing import add_code
from .text import SeqVAE
from .text_batches import FEATURES, cut_to, read_features, token_ids
from .tokenization import decode_sentences


class SeqVAEPipeline(Pipeline):
    """What both tasks have in common: texts to token ids, and saving.

    One text gives one result; a list of texts, an array, a Series or a column a list; an iterator or one of torch's
    data sets an iterator. `batch_size` texts are read at a time. Raises TypeError for what is no text, and ValueError
    when the tokenizer is not the model's.
    """

    _load_tokenizer = True
    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.vae = SeqVAE(self.model, self.tokenizer)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(inputs, Iterator):  # of which transformers knows generators alone
            return super().__call__((text for text in inputs), *args, **kwargs)
        one = isinstance(inputs, str | bytes | Mapping) or getattr(inputs, "ndim", 1) != 1
        if one or isinstance(inputs, torch.utils.data.Dataset) or not isinstance(inputs, Iterable):
            return super().__call__(inputs, *args, **kwargs)
        listed = list(inputs)
        return super().__call__(listed, *args, **kwargs) if listed else []

    def preprocess(self, text: str) -> dict[str, torch.Tensor]:
        """Token ids and mask (1, T) of one text, cut to the tokenizer's limit."""
        if not isinstance(text, str):
            raise TypeError(f"every text must be a string, got {type(text).__name__}")
        (found,) = token_ids([text], self.tokenizer)
        ids = torch.tensor([cut_to(self.tokenizer.model_max_length, found)])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write a checkpoint that carries its code, so that the pipeline runs where the package is not installed.

        Raises ValueError for `push_to_hub=True`, which would upload the model before its code is there.
        """
        self.vae.save_pretrained(save_directory, **kwargs)
        add_code(save_directory)


class SeqVAEFeaturesPipeline(SeqVAEPipeline):
    """Features of each text, as `SeqVAE.encode` gives them: a list of D numbers, or with return_tensors=True a tensor.

    `features` is "mean_variance" (2Z numbers), "mean" (Z), "centre" (Z) or "pooled" (H). Raises ValueError for others,
    and for a language model.
    """

    def _sanitize_parameters(
        self, features: str | None = None, return_tensors: bool | None = None
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        chosen: dict[str, Any] = {}
        if features is not None:
            one_of(FEATURES, features, "features")
            chosen["features"] = features
        return {}, chosen, {} if return_tensors is None else {"return_tensors": return_tensors}

    def _forward(self, inputs: dict[str, torch.Tensor], features: str = "mean_variance") -> dict[str, torch.Tensor]:
        self.vae._require_latent("encode")
        self.vae.feature_names(features)
        return {"features": read_features(self.model, inputs["input_ids"], inputs["attention_mask"], features)}

    def postprocess(self, outputs: dict[str, torch.Tensor], return_tensors: bool = False) -> list[float] | torch.Tensor:
        """The features of one text, (D,)."""
        return outputs["features"][0] if return_tensors else outputs["features"][0].tolist()


class SeqVAEGenerationPipeline(SeqVAEPipeline):
    """What the model writes from the centre of each text, or for None from a z of the prior: [{"generated_text": ...}].

    Parameters are those of `generate`. Words are the likeliest unless do_sample=True; transformers' `set_seed` fixes
    draws. The list has `num_return_sequences` entries. A language model writes for None only: ValueError for a text.
    """

    def _sanitize_parameters(self, **generation_kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {}, generation_kwargs, {}

    def preprocess(self, text: str | None) -> dict[str, torch.Tensor]:
        """Token ids and mask (1, T) of one text, and whether there was none (1,)."""
        return super().preprocess("" if text is None else text) | {"from_prior": torch.tensor([text is None])}

    def _forward(self, inputs: dict[str, torch.Tensor], **generation_kwargs: Any) -> dict[str, torch.Tensor]:
        ids, from_prior = inputs["input_ids"], inputs["from_prior"]
        like = torch.empty(len(ids), self.model.config.latent_size, device=ids.device, dtype=self.model.dtype)
        z = self.model.prior.rsample(1, like)[0]  # (B, Z)
        if not from_prior.all():
            self.vae._require_latent("reconstruct")
            centre = self.model.encode(ids, inputs["attention_mask"]).centre
            z = torch.where(from_prior[:, None], z, centre)
        options = {"tokenizer": self.tokenizer, **with_defaults(generation_kwargs, do_sample=False)}
        written = self.model.sample(latents=z, **options)
        written = getattr(written, "sequences", written)  # of what return_dict_in_generate asks for
        return {"written": written.unflatten(0, (len(ids), -1))}  # (B, N, T)

    def postprocess(self, outputs: dict[str, torch.Tensor]) -> list[dict[str, str]]:
        """The sentences of one text."""
        sentences = decode_sentences(self.tokenizer, outputs["written"][0].tolist())
        return [{"generated_text": sentence} for sentence in sentences]


def register_pipelines() -> None:
    """Make both tasks known to `pipeline`. Importing the package does it; what is registered already is left alone."""
    for task, pipeline_class in (
        ("seqvae-features", SeqVAEFeaturesPipeline),
        ("seqvae-generation", SeqVAEGenerationPipeline),
    ):
        if task not in PIPELINE_REGISTRY.supported_tasks:
            PIPELINE_REGISTRY.register_pipeline(task, pipeline_class, pt_model=AutoModelForSeq2SeqLM, type="text")


__all__ = ["SeqVAEFeaturesPipeline", "SeqVAEGenerationPipeline", "register_pipelines"]
