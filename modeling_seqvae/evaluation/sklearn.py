"""SeqVAEVectorizer: the features of a trained encoder inside scikit-learn's pipelines and searches."""

import os
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from ..text import SeqVAE

LOADING = ("device", "revision", "token", "cache_dir", "local_files_only")
"""Parameters that decide which model is loaded, beside `id_or_path`."""


class SeqVAEVectorizer(TransformerMixin, BaseEstimator):
    """Texts -> features of a trained sequence VAE's encoder, (N, D) float32; nothing is fitted.

    The estimator holds where the checkpoint is, not the model, so that it clones, pickles and crosses processes
    (`n_jobs`) at no cost; the model loads at the first `transform` of each copy, and again after a change of
    `id_or_path`, `device` or an argument for the hub. With a `memory` in the pipeline, a search over a classifier's own
    parameters encodes the training texts of each fold once; those it scores on are encoded for every candidate.

    Args:
        id_or_path: Folder or model id on the hub. (A loaded SeqVAE: write it with `save_pretrained` first. Cloning
            would copy its weights for every candidate and fold.)
        features: "mean_variance" (N, 2Z), "mean" or "centre" (N, Z) or "pooled" (N, H); see SeqVAE.encode.
        batch_size: Texts encoded at a time; changes no result.
        revision: Branch, tag or commit on the hub.
        device: Where to encode, such as "cuda"; None is the CPU.
        show_progress: None shows a bar on long work, True always, False never.
        token: For a private model on the hub. It shows in the estimator's `repr` and pickles, which `hf auth login` or
            HF_TOKEN avoid.
        cache_dir: Where the hub's files are kept; None is the usual place.
        local_files_only: Whether the hub is never asked.
    """

    def __init__(
        self,
        id_or_path: str | os.PathLike[str],
        features: str = "mean_variance",
        batch_size: int = 32,
        *,
        revision: str = "main",
        device: str | torch.device | None = None,
        show_progress: bool | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
    ):
        self.id_or_path = id_or_path
        self.features = features
        self.batch_size = batch_size
        self.revision = revision
        self.device = device
        self.show_progress = show_progress
        self.token = token
        self.cache_dir = cache_dir
        self.local_files_only = local_files_only

    def fit(self, X: Iterable[str], y: Any = None) -> Self:
        """Return the estimator unchanged: the encoder was trained before. Raises TypeError for a single string."""
        _require_several(X)
        return self

    def transform(self, X: Iterable[str]) -> NDArray[np.float32]:
        """Features (N, D) of a list, array or Series of strings.

        Raises TypeError for anything else (a single string and a table included), ValueError for unknown features and
        language models, FileNotFoundError where there is no checkpoint.
        """
        _require_several(X)
        return self._load().encode(X, self.features, self.batch_size, self.show_progress)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the D columns: mean_0, ..., variance_0, ... or pooled_0, ..."""
        return np.array(self._load().feature_names(self.features), dtype=object)

    def _load(self) -> SeqVAE:
        source = os.fspath(self.id_or_path)
        options = {name: getattr(self, name) for name in LOADING}
        if getattr(self, "_loaded_from", None) != (source, options):
            self._vae = SeqVAE.from_pretrained(source, **options)
            self._loaded_from = (source, options)
        return self._vae

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        for loaded in ("_vae", "_loaded_from"):
            state.pop(loaded, None)
        return state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = False
        return tags


def _require_several(X: Any) -> None:
    if isinstance(X, str):
        raise TypeError("X must be an iterable of strings, one per document, got a single string")


__all__ = ["SeqVAEVectorizer"]
