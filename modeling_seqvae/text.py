"""SeqVAE: a sequence VAE for people who hold strings. Strings in, strings or numpy out."""

import os
import secrets
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from .aggregate import COMPONENTS, LEAST_DRAWS, AggregatePosterior
from .argument_checks import as_list_of_strings, at_least, one_of, outside, progress_bar, whole_number
from .carried_parts import HUB_ARGUMENTS
from .checksums import renew_checksums
from .embedding_formats import FORMATS, as_embeddings, cosines, largest_of
from .generation import PROMPT, one_each, with_defaults
from .latent_space import LatentOperations
from .loading import (
    best_of,
    explaining_broken_connection,
    load_model,
    require_checkpoint,
    require_match,
    require_no_run,
)
from .modeling_seqvae import SeqVAEForTextModeling
from .noise import sentence_generator
from .sharing import add_code, plain_card, push_files
from .text_batches import (
    FEATURES,
    TextBatch,
    batches_by_length,
    bound_of,
    evaluating,
    latent_warning,
    nll_of,
    prompt_ids,
    read_features,
)
from .tokenization import decode_sentences

SAMPLED_FROM = {"model": False, "aggregate": True}
"""Where `sample` takes z from, and whether that is the mixture of posteriors rather than p(z)."""


OF_TENSORS = {
    "num_samples": "give n",
    "generator": "give a seed",
    **dict.fromkeys(("inputs", "input_ids", "attention_mask", "inputs_embeds"), "give texts, or latents to decode"),
    "encoder_outputs": "give latents to decode",
}
"""Arguments of the model's `generate` and `sample` that mean nothing beside strings, and what does."""


class SeqVAE(LatentOperations):
    """A model and its tokenizer: encodes, writes, reconstructs, interpolates and scores strings.

    Results keep the order of the texts and depend on the batch size by no more than rounding; with sampled words, a
    seed fixes them for one batch size. The model is put into evaluation mode; one that is set to training mode later on
    is in evaluation mode during each call. `device=None` leaves it where it is.
    Raises ValueError when the tokenizer is not the model's: too large, with other control tokens, or with other words
    or ids than those that the configuration remembers of training.

    Every method that takes texts takes any iterable of strings, raises TypeError with the index and type of what is not
    a string, and ValueError with the index of what is not valid Unicode. A `seed` is a whole number of at least 0 and
    below 2**63. More than a fifth unknown words in a call, or texts longer than `tokenizer.model_max_length`, which
    are cut there: one UserWarning each; a posterior that the checkpoint says has collapsed: one at the first use of
    latents. `encode`, `reconstruct` and `nll` of one string give one result, not a list of
    one. `generation_kwargs` are those of `generate`, and `prompt`, a text that every sentence begins with. With
    `latent_size` 0, a language model, only `sample` and `nll` have a meaning; the others raise ValueError.
    """

    def __init__(
        self,
        model: SeqVAEForTextModeling,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = 32,
        device: str | torch.device | None = None,
    ):
        if not hasattr(model, "iw_nll"):
            raise TypeError(
                f"{type(model).__name__} has no vocabulary layer, and so no sentences: load the model as a "
                "SeqVAEForTextModeling (AutoModelForSeq2SeqLM)"
            )
        require_match(model.config, tokenizer)
        self.model = (model if device is None else model.to(device)).eval()
        self.tokenizer = tokenizer
        self.batch_size = at_least(1, batch_size, "batch_size")
        self.aggregate: AggregatePosterior | None = None
        self._warned = False

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the model to a device, or to a dtype, as `torch.nn.Module.to` does; returns this object."""
        self.model.to(*args, **kwargs)
        return self

    def half(self) -> Self:
        """Compute in float16: half the memory. Slower on CPUs; some are faster by `to(torch.bfloat16)`."""
        return self.to(torch.float16)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def __repr__(self) -> str:
        fields = ("latent_size", "vocab_size", "pooling_mode")
        told = [f"{name}={getattr(self.model.config, name)!r}" for name in fields]
        return f"{type(self).__name__}({', '.join(told)}, device={str(self.model.device)!r})"

    @classmethod
    def from_pretrained(
        cls,
        id_or_path: str | os.PathLike[str],
        *,
        batch_size: int = 32,
        device: str | torch.device | None = None,
        **kwargs: Any,
    ) -> Self:
        """The model and tokenizer of a folder, a run (its best/) or a hub id; weights from safetensors only.

        Other arguments are those of transformers' `from_pretrained`: revision, cache_dir, token, local_files_only,
        dtype, device_map... It computes in float32, however the weights were saved, unless `dtype` says otherwise
        ("auto": as they were saved). Nothing of a checkpoint runs unless `trust_remote_code=True`, which imports the
        modules of its owner's that it carries. Raises FileNotFoundError where there is no checkpoint or no tokenizer
        beside the model, ConnectionError where the hub hangs up, and ValueError for a model of another type or of a
        later format, for a part that is not known, for weights that are damaged or do not fit its config.json, and for
        a field there that is of the wrong type.
        """
        source = os.fspath(id_or_path)
        source = source if kwargs.get("subfolder") else best_of(source)
        hub_arguments = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        require_checkpoint(source, hub_arguments)
        with explaining_broken_connection(source):
            default = {} if "torch_dtype" in kwargs else {"dtype": torch.float32}  # an earlier name of it
            model = load_model(source, **{**default, **kwargs})
            try:
                tokenizer = AutoTokenizer.from_pretrained(source, config=model.config, **hub_arguments)
            except (OSError, ValueError, TypeError, AttributeError) as error:  # the last two of JSON of another form
                reason = str(error).strip().partition("\n")[0]
                raise FileNotFoundError(
                    f"{source} holds a model but no tokenizer that loads ({reason}): save the model's own there, with "
                    "its save_pretrained, as tokenizer.json and tokenizer_config.json"
                ) from error
            aggregate = AggregatePosterior.load(source, model.config.latent_size, **hub_arguments)
        vae = cls(model, tokenizer, batch_size, device)
        vae.aggregate = aggregate
        return vae

    def save_pretrained(self, path: str | os.PathLike[str], is_main_process: bool = True, **kwargs: Any) -> None:
        """Write model, tokenizer, and the mixture if there is one, into a folder, as `from_pretrained` reads them.

        Other arguments are those of the model's, such as max_shard_size; ValueError for `push_to_hub=True`, and for the
        directory of a run.
        """
        require_no_run(Path(path))
        if kwargs.get("push_to_hub"):
            raise ValueError(
                "push_to_hub=True would upload the model before what belongs to it: call push_to_hub of the SeqVAE (of "
                "a pipeline, its `vae`), which shares model, tokenizer and code in one commit"
            )
        self.model.save_pretrained(path, is_main_process, **kwargs)
        if is_main_process:
            self.tokenizer.save_pretrained(path)
            if self.aggregate is not None:
                self.aggregate.save(path)
            renew_checksums(Path(path))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        revision: str | None = None,
        create_pr: bool = False,
        update: bool = False,
        code: bool = True,
        token: str | None = None,
    ) -> str:
        """Share model, tokenizer and a short card on the hub, in one commit; its URL.

        `code` puts beside them what `trust_remote_code=True` runs; the rest, and what is raised, is explained at
        `sharing.push_files`. A run is shared with all that is known about it by `seqvae push`.
        """
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            if code:
                add_code(folder)
            (Path(folder) / "README.md").write_text(plain_card(repo_id, self.model.config, code), "utf-8")
            files = {path.name: path for path in Path(folder).iterdir()}
            return push_files(
                files, repo_id, commit_message="Share a sequence VAE", private=private, revision=revision,
                create_pr=create_pr, update=update, token=token,
            )  # fmt: skip

    @torch.no_grad()  # an inference tensor could not be learned from
    def encode(
        self,
        texts: str | Iterable[str],
        features: str = "mean_variance",
        batch_size: int | None = None,
        show_progress: bool | None = None,
        *,
        normalize_embeddings: bool = False,
        convert_to_tensor: bool = False,
        precision: str = "float32",
    ) -> Any:
        """Features of each text, (N, 2Z) float32: mean and variance of q(z|x); one string gives a vector (2Z,).

        `features` may also be "mean" (N, Z), "centre" (N, Z), which is the mean unless the posterior has flows or is
        on a sphere, or "pooled", the vector h_x before the posterior (N, H). No texts give an array (0, D); "" is
        encoded as the sentence without words. A progress bar appears on work of more than two seconds; `show_progress`
        True shows it at once and False never.

        The other three are those of sentence-transformers: rows of length 1, a tensor on the model's device in place of
        an array, and `precision` "int8", "uint8", or one bit a column, "binary" and "ubinary": see `as_embeddings`.
        Raises FloatingPointError for features that are not finite numbers, as of weights that are not.
        """
        self._require_latent("encode")
        names = self.feature_names(features)
        one_of(FORMATS, precision, "precision")
        listed = as_list_of_strings(texts)
        array = np.empty((len(listed), len(names)), np.float32)
        for batch in self._batches(listed, "encoding", batch_size, show_progress):
            chosen = read_features(self.model, batch.input_ids, batch.attention_mask, features, batch.positions)
            array[batch.positions] = chosen.cpu().numpy()
        largest = largest_of(self.model, features)
        rows = as_embeddings(torch.from_numpy(array), largest, normalize_embeddings, precision)
        result = rows.to(self.device) if convert_to_tensor else rows.numpy()
        return result[0] if isinstance(texts, str) else result

    def similarity(self, embeddings: Any, others: Any) -> Any:
        """The cosine of each of `embeddings` (N, D) and each of `others` (M, D), (N, M); of tensors a tensor.

        Either may be one vector (D,). Raises ValueError for other shapes, and for rows of precision "uint8", "binary"
        or "ubinary", whose cosines say nothing of the texts.
        """
        if any(self._no_vectors(rows) for rows in (embeddings, others)):
            raise ValueError(
                "cosines of rows of precision uint8, binary or ubinary say nothing: encode with float32 or int8"
            )
        found = cosines(embeddings, others)
        return found if isinstance(embeddings, torch.Tensor) else found.cpu().numpy()

    def _no_vectors(self, rows: Any) -> bool:
        """Whether rows are of a precision that moves zero (uint8), or that packs eight columns into one."""
        kind = str(getattr(rows, "dtype", "")).removeprefix("torch.")
        widths = {len(self.feature_names(features)) for features in FEATURES}
        packed = {-(-width // 8) for width in widths} - widths
        return kind == "uint8" or (kind == "int8" and rows.ndim > 0 and rows.shape[-1] in packed)

    def feature_names(self, features: str = "mean_variance") -> list[str]:
        """Names of the D columns of `encode`: mean_0, mean_1, ... Raises ValueError for features that do not exist."""
        one_of(FEATURES, features, "features")
        config = self.model.config
        sizes = {"pooled": config.encoder_hidden_size}
        return [f"{block}_{i}" for block in FEATURES[features] for i in range(sizes.get(block, config.latent_size))]

    def encode_batch(
        self,
        batch: Mapping[str, Any],
        text_column: str = "text",
        output_column: str = "features",
        features: str = "mean_variance",
    ) -> dict[str, NDArray[np.float32]]:
        """Features of a batch of rows as a column, (N, D): `rows.map(vae.encode_batch, batched=True)` of `datasets`.

        The other arguments go into `fn_kwargs`. Raises ValueError for a column that is not there, else as `encode`.
        """
        if text_column not in batch:
            raise ValueError(f"there is no column {text_column!r}; the columns are {', '.join(batch)}")
        return {output_column: self.encode(batch[text_column], features, show_progress=False)}

    @torch.inference_mode()
    def sample(
        self,
        n: int = 1,
        seed: int | None = None,
        prior: str = "model",
        batch_size: int | None = None,
        show_progress: bool | None = None,
        **generation_kwargs: Any,
    ) -> list[str]:
        """`n` new sentences, from z ~ p(z) and words drawn from the model's own distribution.

        `seed` fixes them, in batches of one size; without one they are new at every call. With `prior` "aggregate" z is
        drawn from the mixture that `fit_aggregate` has fitted to posteriors, instead of p(z). `show_progress` is as in
        `encode`. ValueError for a negative `n`, and where there is no such mixture.
        """
        if "latents" in generation_kwargs:
            raise TypeError("sample draws its latents: decode(latents) writes texts from some of your own")
        self._warn_if_collapsed()
        generator = _generator(seed)
        if one_of(SAMPLED_FROM, prior, "prior"):
            self.model.model._require_latent("sample from posteriors")
            if self.aggregate is None:
                raise ValueError("there is no mixture to sample from: call fit_aggregate first, with training texts")
            latents = self.model.prior.project(self.aggregate.sample(at_least(0, n, "n"), generator))
        else:
            like = torch.empty(at_least(0, n, "n"), self.model.config.latent_size)
            latents = self.model.prior.rsample(1, like, generator)[0]
        return self._write(latents, generator, batch_size, show_progress, generation_kwargs)

    @torch.no_grad()
    def fit_aggregate(
        self,
        texts: Iterable[str],
        components: int = COMPONENTS,
        seed: int = 0,
        batch_size: int | None = None,
        show_progress: bool | None = None,
    ) -> AggregatePosterior:
        """Fit a mixture of Gaussians to draws of q(z|x) of texts, and keep it, here and with `save_pretrained`.

        The texts should be those of training, or like them: of each there is a draw of z, of few texts several, so that
        there are at least 10,000. A text's draws depend on the seed and its place in the list. Raises ValueError for no
        texts, and for fewer draws than components.
        """
        self._require_latent("fit a mixture")
        components, listed = at_least(1, components, "components"), as_list_of_strings(texts)
        if not listed:
            raise ValueError("there are no texts to fit a mixture to")
        each = -(-LEAST_DRAWS // len(listed))
        draws = np.empty((len(listed), each, self.model.config.latent_size), np.float32)
        for batch in self._batches(listed, "encoding", batch_size, show_progress):
            generators = [sentence_generator(_seed(seed), place) for place in batch.positions]
            latents = self.model.encode(batch.input_ids, batch.attention_mask).rsample(each, generators)
            draws[batch.positions] = latents.transpose(0, 1).float().cpu().numpy()
        self.aggregate = AggregatePosterior.fit(draws.reshape(-1, draws.shape[-1]), components, _seed(seed))
        return self.aggregate

    @torch.inference_mode()
    def decode(
        self,
        latents: ArrayLike | torch.Tensor,
        seed: int | None = None,
        batch_size: int | None = None,
        show_progress: bool | None = None,
        **generation_kwargs: Any,
    ) -> list[str]:
        """The sentences that the model writes from latents (N, Z), greedily unless told otherwise.

        Of posteriors on a sphere, the point of it in a latent's direction is read. `seed` matters with
        `do_sample=True`; `show_progress` is as in `encode`. No latents, [], give no sentences. Raises ValueError for
        another shape than (N, Z), and for latents that are not finite.
        """
        self._require_latent("decode")
        z = latents.float() if isinstance(latents, torch.Tensor) else torch.tensor(np.asarray(latents, np.float32))
        latent_size = self.model.config.latent_size
        if z.shape == (0,):
            z = z.reshape(0, latent_size)
        if z.ndim != 2 or z.shape[1] != latent_size:
            raise ValueError(f"latents must have the shape (N, {latent_size}), got {tuple(z.shape)}")
        projected = self.model.prior.project(z)
        dtype = self.model.dtype
        strange = (~(z.isfinite() & projected.to(dtype).isfinite())).any(1).nonzero()
        if len(strange):
            raise ValueError(
                f"latents[{int(strange[0])}] is not finite: it must be {latent_size} numbers that "
                f"{str(dtype).removeprefix('torch.')} can hold"
            )
        options = with_defaults(generation_kwargs, do_sample=False)
        return self._write(projected, _generator(seed), batch_size, show_progress, options)

    @overload
    def reconstruct(
        self,
        texts: str,
        seed: int | None = ...,
        batch_size: int | None = ...,
        show_progress: bool | None = ...,
        **generation_kwargs: Any,
    ) -> str: ...

    @overload
    def reconstruct(
        self,
        texts: Iterable[str],
        seed: int | None = ...,
        batch_size: int | None = ...,
        show_progress: bool | None = ...,
        **generation_kwargs: Any,
    ) -> list[str]: ...

    def reconstruct(
        self,
        texts: str | Iterable[str],
        seed: int | None = None,
        batch_size: int | None = None,
        show_progress: bool | None = None,
        **generation_kwargs: Any,
    ) -> str | list[str]:
        """What the model writes from the centre of each text's posterior (see `encode`).

        `seed` and other arguments as in `decode`. One string gives one sentence, or the list of `num_return_sequences`.
        """
        self._require_latent("reconstruct")
        listed = [texts] if isinstance(texts, str) else texts
        centres = self.encode(listed, "centre", batch_size, show_progress)
        sentences = self.decode(centres, seed, batch_size, show_progress, **generation_kwargs)
        return sentences[0] if isinstance(texts, str) and len(sentences) == 1 else sentences

    @torch.inference_mode()
    def nll(
        self,
        texts: str | Iterable[str],
        num_samples: int = 500,
        seed: int | None = 0,
        batch_size: int | None = None,
        show_progress: bool | None = None,
    ) -> NDArray[np.float64]:
        """Importance-weighted -log p(x) of each text, `</s>` included, (N,) in nats; of one string, one number.

        The draws of a text depend on the seed and its token ids alone: it has the same NLL in every list and batch, but
        for rounding. A seed of None draws anew at every call. A language model's is exact. See iw_nll of the model.
        """
        listed = as_list_of_strings(texts)
        num_samples, seed = at_least(1, num_samples, "num_samples"), _seed(seed)
        values = np.empty(len(listed))
        for batch in self._batches(listed, "scoring", batch_size, show_progress):
            nll = nll_of(self.model, batch, num_samples, seed)
            values[batch.positions] = nll.cpu().double().numpy()
        return values[0] if isinstance(texts, str) else values

    @torch.inference_mode()
    def elbo(
        self,
        texts: str | Iterable[str],
        seed: int | None = 0,
        batch_size: int | None = None,
        show_progress: bool | None = None,
    ) -> NDArray[np.float64]:
        """The ELBO of each text from one draw of z, (N,) in nats: a lower bound of log p(x); of one string, one number.

        It takes the time of one draw, where `nll` takes that of `num_samples`, and is lower the looser the bound. The
        draw of a text depends on the seed and its token ids alone. A language model's is log p(x) itself.
        """
        listed = as_list_of_strings(texts)
        seed = _seed(seed)
        values = np.empty(len(listed))
        for batch in self._batches(listed, "scoring", batch_size, show_progress):
            values[batch.positions] = -bound_of(self.model, batch, seed).cpu().double().numpy()
        return values[0] if isinstance(texts, str) else values

    def _require_latent(self, action: str) -> None:
        """Refuse a language model, and warn of a collapsed posterior."""
        self.model.model._require_latent(action)
        self._warn_if_collapsed()

    def _warn_if_collapsed(self) -> None:
        """One warning for this object's life where the checkpoint says that its latent says next to nothing."""
        kl = self.model.config.validation_kl
        warning = "" if kl is None or self._warned else latent_warning(kl, self.model.config.validation_mi)
        if warning:
            self._warned = True
            warnings.warn(f"{self.model.name_or_path or 'this model'}: {warning}", stacklevel=outside())

    def _write(
        self,
        latents: torch.Tensor,
        generator: torch.Generator,
        batch_size: int | None,
        show_progress: bool | None,
        generation_kwargs: dict[str, Any],
    ) -> list[str]:
        """The sentences of latents (N, Z), in order; `generator` decides the words."""
        if generation_kwargs.get("return_dict_in_generate"):
            raise ValueError(
                "return_dict_in_generate=True asks for tensors, and here are sentences: call sample or generate of "
                "SeqVAE.model"
            )
        for name in OF_TENSORS.keys() & generation_kwargs.keys():
            raise TypeError(f"{name} is an argument of SeqVAE.model, which takes tensors; here {OF_TENSORS[name]}")
        sentences: list[str] = []
        size = self._size(batch_size)
        options = {"tokenizer": self.tokenizer, **generation_kwargs}
        if (prompt := options.pop("prompt", None)) is not None:
            if options.get("decoder_input_ids") is not None:
                raise ValueError("give either prompt, a text, or decoder_input_ids, its tokens")
            options["decoder_input_ids"] = self._begun(prompt, options)
        prompts = {name: options.pop(name) for name in PROMPT if options.get(name) is not None}
        with evaluating(self.model), progress_bar(len(latents), "writing", show_progress) as bar:
            for numbers in torch.arange(len(latents)).split(size) if len(latents) else ():
                z = latents[numbers].to(self.model.device, self.model.dtype)
                of_batch = {name: one_each(name, rows, len(latents))[numbers] for name, rows in prompts.items()}
                written = self.model.sample(latents=z, generator=generator, **options, **of_batch)
                ids = getattr(written, "sequences", written)  # of what a configuration may ask for
                sentences += decode_sentences(self.tokenizer, ids.tolist())
                bar.update(len(z))
        return sentences

    def _begun(self, prompt: str, options: Mapping[str, Any]) -> torch.Tensor:
        """The ids of a prompt. Raises ValueError for one that leaves no room for a word behind it."""
        ids = prompt_ids(prompt, self.tokenizer)
        config = options.get("generation_config") or self.model.generation_config
        most, new = (options.get(name) or getattr(config, name) for name in ("max_length", "max_new_tokens"))
        if new is None and most and ids.shape[1] >= most:
            raise ValueError(
                f"the prompt has {ids.shape[1] - 1} tokens, and a sentence at most {most - 1}, as in training: give "
                "max_new_tokens, those behind the prompt"
            )
        return ids

    def _batches(
        self, texts: list[str], doing: str, batch_size: int | None, show_progress: bool | None
    ) -> Iterator[TextBatch]:
        return batches_by_length(texts, self.model, self.tokenizer, self._size(batch_size), doing, show_progress)

    def _size(self, batch_size: int | None) -> int:
        return self.batch_size if batch_size is None else at_least(1, batch_size, "batch_size")


def _generator(seed: int | None) -> torch.Generator:
    """A generator with this seed, or one that no call before has had (torch's own starts the same in every process)."""
    return torch.Generator().manual_seed(_seed(seed))


def _seed(seed: int | None) -> int:
    """The seed, or for None one that no call before has had. Raises ValueError for one that torch or numpy refuse."""
    seed = secrets.randbits(63) if seed is None else whole_number(seed, "seed")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be at least 0 and below 2**63, got {seed}")
    return seed


__all__ = ["SeqVAE"]
