"""What transformers' `generate` does not know of this model: draws from a generator, prompts, lengths, stop strings."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers import GenerationMixin, PreTrainedTokenizerBase
from transformers.generation import StoppingCriteria, StoppingCriteriaList

from .tokenization import decode_sentences

PROMPT = ("decoder_input_ids", "decoder_attention_mask")
"""Arguments of `generate` that hold one row for each sentence, or a single row for all of them."""


def with_defaults(options: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Arguments of `generate` with defaults for those that are not given, neither by name nor in a `generation_config`.

    A given configuration is copied and completed, since arguments by name would override it.
    """
    config = options.get("generation_config")
    if config is None:
        return {**defaults, **options}
    config = copy.deepcopy(config)
    for name, value in defaults.items():
        if getattr(config, name, None) is None:
            setattr(config, name, value)
    return {**options, "generation_config": config}


class DrawingFrom(TorchFunctionMode):
    """Inside the block, `generate` draws its words from `generator`, in this thread alone; None changes nothing.

    `generate` has no argument for a generator: its draws are `torch.multinomial` from the global random state, which
    threads share. The generator gives a seed; the words come from a generator of that seed on the device of the model.
    """

    def __init__(self, generator: torch.Generator | None):
        super().__init__()
        self.seed = None
        if generator is not None:
            self.seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        self.words: torch.Generator | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.multinomial, torch.Tensor.multinomial) and self.seed is not None:
            if self.words is None:
                probabilities = args[0] if args else kwargs["input"]
                self.words = torch.Generator(probabilities.device).manual_seed(self.seed)
            kwargs = {**kwargs, "generator": self.words}
        return func(*args, **kwargs)


class StopStrings(StoppingCriteria):
    """A sentence ends with the word that completes one of the strings in its text.

    transformers' own criterion wants a tokenizer that has a token for every text, which one of words has not.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: str | Sequence[str]):
        self.tokenizer = tokenizer
        self.strings = [strings] if isinstance(strings, str) else list(strings)
        if not all(isinstance(string, str) and string for string in self.strings):
            raise ValueError(f"stop_strings must be strings of a character or more, got {strings!r}")

    def __call__(self, input_ids: torch.Tensor, scores: Any, **unused: Any) -> torch.Tensor:
        """Whether each of input_ids (B, T) ends here, (B,)."""
        rows = input_ids.tolist()
        before = decode_sentences(self.tokenizer, [row[:-1] for row in rows])
        now = decode_sentences(self.tokenizer, rows)
        ended = [
            any(text.count(string) > earlier.count(string) for string in self.strings)
            for text, earlier in zip(now, before, strict=True)
        ]
        return torch.tensor(ended, device=input_ids.device)


class SeqVAEGenerationMixin(GenerationMixin):
    """`generate`, where `stop_strings` work with tokenizers of words and one prompt serves all sentences.

    `max_new_tokens` replaces the length limit of the model's own generation configuration without a warning.
    """

    def _get_stopping_criteria(
        self, generation_config: Any, stopping_criteria: StoppingCriteriaList | None, tokenizer: Any = None
    ) -> StoppingCriteriaList:
        if generation_config.stop_strings is None or tokenizer is None:  # which transformers explains
            return super()._get_stopping_criteria(generation_config, stopping_criteria, tokenizer)
        stop = StopStrings(tokenizer, generation_config.stop_strings)
        generation_config.stop_strings = None
        return StoppingCriteriaList(
            [stop, *super()._get_stopping_criteria(generation_config, stopping_criteria, tokenizer)]
        )

    def _get_logits_processor(self, generation_config: Any, *args: Any, **kwargs: Any) -> Any:
        if generation_config.guidance_scale not in (None, 1) and self.config.latent_size > 0:
            raise ValueError(
                "guidance_scale compares with the model on its last words alone, of which this one would read a z of "
                "their own: leave it out; a language model, latent_size=0, takes it"
            )
        return super()._get_logits_processor(generation_config, *args, **kwargs)

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, **kwargs: Any) -> dict[str, Any]:
        """The inputs of one step, without the tokenizer that `stop_strings` take and no model reads."""
        kwargs.pop("tokenizer", None)
        return super().prepare_inputs_for_generation(input_ids, **kwargs)

    def _prepare_generated_length(self, generation_config: Any, *args: Any, **kwargs: Any) -> Any:
        limit, new = self.generation_config.max_length, generation_config.max_new_tokens
        if new is not None and generation_config.max_length == limit:
            generation_config.max_length = None  # a default, of which transformers would warn
        return super()._prepare_generated_length(generation_config, *args, **kwargs)

    def _prepare_decoder_input_ids_for_generation(
        self, batch_size: int, model_input_name: str, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        for name in PROMPT:
            if model_kwargs.get(name) is not None:
                model_kwargs[name] = one_each(name, model_kwargs[name], batch_size).to(self.device)
        return super()._prepare_decoder_input_ids_for_generation(
            batch_size, model_input_name, model_kwargs, *args, **kwargs
        )


def one_each(name: str, given: Any, sentences: int) -> torch.Tensor:
    """A row for each sentence; one row is that of all. Raises ValueError for another number, or another shape."""
    rows = torch.as_tensor(given)
    if rows.ndim < 2 or len(rows) not in (1, sentences):
        raise ValueError(
            f"{name} must have one row for all sentences or one for each of the {sentences}, got the shape "
            f"{tuple(rows.shape)}"
        )
    return rows.expand(sentences, *rows.shape[1:])
