"""SeqVAEVectorizer: the features of a trained encoder inside scikit-learn's pipelines and searches."""

import hashlib
import os
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from ..argument_checks import one_of
from ..carried_parts import HUB_ARGUMENTS
from ..data.caching import quiet_libraries
from ..data.files import cached_sha256_of
from ..loading import best_of
from ..own_modules import code_of, import_parts
from ..text import SeqVAE
from ..text_batches import FEATURES

LOADING = ("device", "revision", "token", "cache_dir", "local_files_only", "trust_remote_code")
"""Parameters that decide which model is loaded, beside `id_or_path`."""

FILES = ("config.json", "model*.safetensors", "model*.safetensors.index.json", "*token*.json")
"""The files of a checkpoint that decide its features: not those of an aggregate or of dual networks."""


class SeqVAEVectorizer(TransformerMixin, BaseEstimator):
    """Texts -> features of a trained sequence VAE's encoder, (N, D) float32; nothing is fitted.

    The estimator holds where the checkpoint is, not the model, so that it clones, pickles and crosses processes
    (`n_jobs`) at no cost; the model loads at the first `transform` of each copy, and again after a change of
    `id_or_path`, `device` or an argument for the hub, and where other files have taken the place of the checkpoint's.
    A name on the hub is resolved to a commit once for each copy. With a `memory` in the pipeline, a search over a
    classifier's own parameters encodes the training texts of each fold once; those it scores on are encoded for every
    candidate. What the checkpoint holds, and the code of `imports`, is part of the memory's key: with a model that was
    trained again, or with other code, texts are encoded again.

    Args:
        id_or_path: Folder, run (its best/) or model id on the hub. (A loaded SeqVAE: write it with `save_pretrained`
            first. Cloning would copy its weights for every candidate and fold.)
        features: "mean_variance" (N, 2Z), "mean" or "centre" (N, Z) or "pooled" (N, H); see SeqVAE.encode.
        batch_size: Texts encoded at a time; changes no result.
        revision: Branch, tag or commit on the hub.
        device: Where to encode, such as "cuda"; None is the CPU.
        show_progress: None shows a bar on long work, True always, False never.
        token: For a private model on the hub. It shows in the estimator's `repr` and pickles, which `hf auth login` or
            HF_TOKEN avoid.
        cache_dir: Where the hub's files are kept; None is the usual place.
        local_files_only: Whether the hub is never asked.
        trust_remote_code: Whether the parts of its owner's that a shared checkpoint carries may run here.
        imports: Modules that register parts of the model, by name or file, imported before it loads: so the processes
            of `n_jobs` have them too.

    Attributes:
        content_: SHA-256 of the checkpoint at `fit`, or its commit on the hub; None where there was none. `transform`
            warns when it encodes with another: what was fitted on the earlier features must be fitted again.
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
        trust_remote_code: bool = False,
        imports: Sequence[str | os.PathLike[str]] = (),
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
        self.trust_remote_code = trust_remote_code
        self.imports = imports

    def fit(self, X: Iterable[str], y: Any = None) -> Self:
        """Note what the checkpoint holds; the encoder was trained before.

        Raises TypeError for a single string, and ValueError for unknown features.
        """
        _require_several(X)
        one_of(FEATURES, self.features, "features")
        self.content_ = self._content()
        return self

    def transform(self, X: Iterable[str]) -> NDArray[np.float32]:
        """Features (N, D) of a list, array or Series of strings.

        Raises TypeError for anything else (a single string and a table included), ValueError for unknown features and
        language models, FileNotFoundError where there is no checkpoint, and what `import_parts` raises for `imports`.
        Warns where it is not the checkpoint of `fit`.
        """
        _require_several(X)
        vae = self._load()
        if getattr(self, "content_", None) not in (None, self._loaded_from[-1]):
            warnings.warn(
                f"{self.id_or_path} holds another model than at fit: what was fitted on its features before, such as a "
                "classifier, must be fitted again",
                stacklevel=2,
            )
        return vae.encode(X, self.features, self.batch_size, self.show_progress)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the D columns: mean_0, ..., variance_0, ... or pooled_0, ..."""
        return np.array(self._load().feature_names(self.features), dtype=object)

    def _load(self) -> SeqVAE:
        asked, content = self._asked(), self._content()
        if getattr(self, "_loaded_from", None) != (asked, content):
            source, options = asked
            import_parts(self._modules())
            if content is not None and not Path(source).exists():
                options = {**options, "revision": content}
            with quiet_libraries() if self.show_progress is False else nullcontext():  # of the weights that are read
                self._vae = SeqVAE.from_pretrained(source, **options)
            self._loaded_from = (asked, content)
        return self._vae

    def _modules(self) -> list[str]:
        if isinstance(self.imports, str | os.PathLike):
            raise TypeError(f"imports must be a sequence of modules, not one: [{os.fspath(self.imports)!r}]")
        return [os.fspath(module) for module in self.imports]

    def _asked(self) -> tuple[str, dict[str, Any]]:
        return os.fspath(self.id_or_path), {name: getattr(self, name) for name in LOADING}

    def _content(self) -> str | None:
        """What the checkpoint holds now, in a word; None where there is none, which `transform` tells."""
        asked = source, options = self._asked()
        if Path(source).exists():
            return _checksum(source)
        resolved_of, commit = getattr(self, "_resolved", (None, None))
        if resolved_of != asked or commit is None:
            commit = _commit(source, options)
            self._resolved = (asked, commit)
        return commit

    def __getstate__(self) -> dict[str, Any]:
        """The parameters, and what checkpoint and imports hold, so that the key of a memory knows it."""
        state = super().__getstate__().copy()
        for loaded in ("_vae", "_loaded_from", "_resolved"):
            state.pop(loaded, None)
        return state | {"_hashed": (self._content(), code_of(self._modules()))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({name: value for name, value in state.items() if name != "_hashed"})

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = False
        return tags


def _checksum(source: str) -> str | None:
    """The SHA-256 of the files in a folder that decide features; None where there are none."""
    try:
        folder = Path(best_of(source))
        files = sorted({path for pattern in FILES for path in folder.glob(pattern)})
        sums = [f"{path.name} {cached_sha256_of(path)}" for path in files]
    except OSError:
        return None
    return hashlib.sha256("\n".join(sums).encode()).hexdigest() if sums else None


def _commit(source: str, options: dict[str, Any]) -> str | None:
    """The commit on the hub, or in its cache here, of a name and revision; None where there is none to be had."""
    try:
        asked = {name: value for name, value in options.items() if name in HUB_ARGUMENTS}
        return Path(hf_hub_download(source, "config.json", **asked)).parent.name  # in snapshots/COMMIT
    except Exception:  # whatever it is, loading the model tells it
        return None


def _require_several(X: Any) -> None:
    if isinstance(X, str):
        raise TypeError("X must be an iterable of strings, one per document, got a single string")


__all__ = ["SeqVAEVectorizer"]
