"""The sequence VAE of Long, Cao and Cheung (2019): encoder, pooling, posterior, z, decoder, vocabulary layer.

Letters in shapes: B sentences, T tokens, E embedding, H hidden, Z latent, V vocabulary, L layers, S importance samples.
"""

import os
import warnings
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from .aggregate import FILE as AGGREGATE
from .carried_parts import HUB_ARGUMENTS, import_carried
from .configuration_seqvae import SeqVAEConfig
from .decoders import DECODERS, words_given
from .encoders import ENCODERS, NoEncoder, mask_of
from .gaussian import NormalisedGaussianPosterior
from .generation import DrawingFrom, SeqVAEGenerationMixin, with_defaults
from .kernels import batch_mean
from .likelihood import importance_weighted_nll
from .noise import Generators
from .outputs import (
    CACHE_NAME,
    SeqVAECache,
    SeqVAEEncoderOutput,
    SeqVAEModelOutput,
    SeqVAETextModelingOutput,
    one_cache,
)
from .posteriors import Prior, prior_of
from .refinement import RefiningHead

SENTENCE_TOKENS_AT_ONCE = 1 << 14
"""Tokens the decoder reads at a time while importance weighting; bounds memory, changes no result."""

LEFT_PADDING = "padding stands before words, where a recurrent decoder would read it: pad on the right"


class SeqVAEPreTrainedModel(PreTrainedModel):
    """Initial weights, and what transformers needs to know of a recurrent encoder-decoder."""

    config: SeqVAEConfig
    config_class = SeqVAEConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _no_split_modules = [
        "SeqVAEEncoder", "ConvolutionalEncoder", "LSTMDecoder", "UnigramDecoder", "DilatedCNNDecoder", "HybridDecoder",
    ]  # fmt: skip
    _is_stateful = True
    # Losses are nats per sentence: a Trainer must average them over accumulation steps and processes itself.
    accepts_loss_kwargs = False

    @property
    def device(self) -> torch.device:
        """As in transformers; where weights lie elsewhere, as a `device_map` can have it, the one that computes."""
        device, hook = super().device, getattr(self, "_hf_hook", None)
        computing = getattr(hook, "execution_device", None)
        return torch.device(computing) if device.type == "meta" and computing is not None else device

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *model_args: Any, **kwargs: Any
    ) -> Any:
        """As in transformers. With `trust_remote_code=True` a checkpoint's own parts, which it carries, are imported.

        Raises ValueError that names the field for a part that is not known otherwise.
        """
        if kwargs.get("trust_remote_code") and pretrained_model_name_or_path is not None:
            hub_arguments = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
            import_carried(pretrained_model_name_or_path, **hub_arguments)
        return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    @property
    def dtype(self) -> torch.dtype:
        """That of the first weights. torch's DataParallel, which a Trainer uses, makes copies without parameters."""
        return self.get_input_embeddings().weight.dtype

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, NormalisedGaussianPosterior):
            init.zeros_(module.average)
            init.ones_(module.mean_variance)
        if isinstance(module, nn.Embedding):
            bound = self.config.embedding_initializer_range
        elif isinstance(module, nn.Linear | nn.LSTM | nn.Conv1d | nn.ConvTranspose1d):
            bound = self.config.initializer_range
        else:
            return
        for parameter in module.parameters(recurse=False):
            init.uniform_(parameter, -bound, bound)

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """As in transformers; then what a part of your own has of its own.

        These are the weights that its `reset_parameters` sets, and what no checkpoint holds and transformers leaves
        without values: buffers that are not persistent, and tensors that are neither buffers nor parameters.
        """
        own = [module for module in self.modules() if _resets(module)]
        super().initialize_weights()
        with init.guard_torch_init_functions():  # not what a checkpoint has given
            for module in own:
                module.reset_parameters()
        model = self.base_model
        buffers = [name for name, _ in model.named_non_persistent_buffers()]
        tensors = [
            (place, name, value.dtype)
            for place, module in model.named_modules()
            for name, value in vars(module).items()
            if isinstance(value, torch.Tensor) and value.is_meta
        ]
        if not buffers and not tensors:
            return
        with torch.random.fork_rng([]):
            decoder = DECODERS[self.config.decoder](self.config)
            made = nn.ModuleDict({"encoder": _encoder_of(self.config), "decoder": decoder})
        for name in buffers:
            model.get_buffer(name).copy_(made.get_buffer(name))
        for place, name, dtype in tensors:
            value = getattr(made.get_submodule(place), name)
            setattr(model.get_submodule(place), name, value.to(self.device, dtype))

    def _resize_token_embeddings(
        self, new_num_tokens: int, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """Encoder and decoder have an embedding each: both take the new size, whose words are no longer known."""
        embeddings = super()._resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        if embeddings.num_embeddings != self.config.vocab_size:
            self.config.vocabulary_hash = None
        decoder = self.base_model.decoder
        if decoder.embed_tokens is not None and embeddings is not decoder.embed_tokens:
            decoder.embed_tokens = self._get_resized_embeddings(
                decoder.embed_tokens, embeddings.num_embeddings, mean_resizing=mean_resizing
            )
        for name in decoder.word_layers:
            layer = self._get_resized_lm_head(getattr(decoder, name), embeddings.num_embeddings)
            setattr(decoder, name, layer)
        return embeddings


class SeqVAEModel(SeqVAEPreTrainedModel):
    """Encoder, posterior and decoder states, without a vocabulary layer."""

    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]  # of a SeqVAEForTextModeling's checkpoint

    def __init__(self, config: SeqVAEConfig):
        config.require_parts()
        config.require_valid()
        super().__init__(config)
        self.encoder: Any = _encoder_of(config)
        self.decoder: Any = DECODERS[config.decoder](config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """The encoder's embeddings; a language model's only ones are the decoder's."""
        return (self.encoder if self.config.latent_size > 0 else self.decoder).embed_tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        (self.encoder if self.config.latent_size > 0 else self.decoder).embed_tokens = value

    def encode(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> Any:
        """The posterior q(z|x) of each sentence: `.mean`, `.variance` (B, Z), `.rsample(n)`, `.log_prob(z)`, `.kl()`.

        A `refined` posterior is not refined, neither here nor in `forward`: that takes the vocabulary layer. Raises
        ValueError for a language model, which has no latent to encode into.
        """
        self._require_latent("encode")
        return self.encoder.posterior(self.encoder.read(input_ids, attention_mask, inputs_embeds)[1])

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        encoder_outputs: SeqVAEEncoderOutput | tuple | None = None,
        latents: torch.Tensor | None = None,
        sample_posterior: bool | None = None,
        cache: SeqVAECache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        past_key_values: SeqVAECache | None = None,
    ) -> SeqVAEModelOutput:
        """Decoder states of decoder_input_ids (B, T), or else of input_ids, whose mask is then the default, given z.

        z is drawn from the posterior in training mode and is its centre in evaluation mode, unless `sample_posterior`
        says otherwise; `latents` (B, Z) overrides both. `cache` is the state after the words that the decoder has read
        before; `past_key_values` is its earlier name. Raises ValueError where no input is given, or ids and embeddings
        of the same words, and where padding stands before the words that the decoder reads.
        """
        if encoder_outputs is None and latents is not None and input_ids is None and inputs_embeds is None:
            encoded = SeqVAEEncoderOutput(latents=latents)
        elif encoder_outputs is None:
            encoded = self.encoder(
                input_ids,
                attention_mask,
                inputs_embeds,
                output_hidden_states=self._wants_states(output_hidden_states),
                sample_posterior=self.training if sample_posterior is None else sample_posterior,
            )
        else:
            encoded = _encoder_output(encoder_outputs)
        latents = encoded.latents if latents is None else latents
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self._shared_input(input_ids, inputs_embeds)
            decoder_attention_mask = attention_mask if decoder_attention_mask is None else decoder_attention_mask
        words = words_given(decoder_input_ids, decoder_inputs_embeds, "decoder_")
        wanted = (len(words), self.config.latent_size)
        if latents is None or latents.shape != wanted:
            raise ValueError(f"latents must be {wanted}, got {None if latents is None else tuple(latents.shape)}")
        _refuse_left_padding(mask_of(decoder_input_ids, decoder_attention_mask, self.config))
        cache = one_cache(cache, past_key_values)
        states, cache = self.decoder(latents.to(self.dtype), decoder_input_ids, decoder_inputs_embeds, cache)
        return SeqVAEModelOutput(
            last_hidden_state=states[-1],
            latents=latents,
            kl=encoded.kl,
            pooled=encoded.pooled,
            cache=cache if (self.config.use_cache if use_cache is None else use_cache) else None,
            decoder_hidden_states=states if self._wants_states(output_hidden_states) else None,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
            flow_inputs=encoded.flow_inputs,
            kl_per_dimension=encoded.kl_per_dimension,
        )

    def _shared_input(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor | None:
        """What the decoder reads when it is given nothing of its own: the encoder's words, never its embeddings."""
        if inputs_embeds is not None:
            raise ValueError(
                "inputs_embeds feeds the encoder only: the decoder has its own embeddings, "
                "so give decoder_input_ids or decoder_inputs_embeds too"
            )
        return input_ids

    def _require_latent(self, action: str) -> None:
        if self.config.latent_size == 0:
            raise ValueError(f"cannot {action}: this model has latent_size=0, a language model without a latent")

    def _wants_states(self, output_hidden_states: bool | None) -> bool:
        return bool(self.config.output_hidden_states if output_hidden_states is None else output_hidden_states)


class SeqVAEForTextModeling(SeqVAEPreTrainedModel, SeqVAEGenerationMixin):
    """A sequence VAE that writes: the model, a vocabulary layer, the ELBO, sampling and likelihood."""

    _tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}

    def __init__(self, config: SeqVAEConfig):
        super().__init__(config)
        self.model = SeqVAEModel(config)
        self.lm_head = DECODERS[config.decoder].vocabulary_layer(config)
        self.kl_weight = 1.0
        self.post_init()

    def train(self, mode: bool = True) -> Self:
        """As in torch. In training mode weights change, so that what was measured of them no longer holds."""
        if mode:
            self.config.validation_kl = self.config.validation_mi = None
        return super().train(mode)

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], is_main_process: bool = True, *arguments: Any, **named: Any
    ) -> None:
        """As in transformers. A mixture that stands there was fitted to the posteriors of other weights: it goes."""
        super().save_pretrained(save_directory, is_main_process, *arguments, **named)
        if is_main_process:
            (Path(save_directory) / AGGREGATE).unlink(missing_ok=True)

    def encode(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> Any:
        """The posterior q(z|x) of each sentence; see SeqVAEModel.encode. A `refined` one is refined here.

        Raises ValueError for inputs_embeds where the posterior is refined, for which the words are needed.
        """
        self.model._require_latent("encode")
        pooled = self.model.encoder.read(input_ids, attention_mask, inputs_embeds)[1]
        return self.posterior(pooled, input_ids, attention_mask)

    @property
    def prior(self) -> Prior:
        """p(z): that of the head's posteriors; a language model has latents of no dimensions."""
        return prior_of(getattr(self.model.encoder, "posterior", None))

    @property
    def refines(self) -> bool:
        """Whether posteriors are improved by the text itself, so that the encoder alone does not give them."""
        return isinstance(getattr(self.model.encoder, "posterior", None), RefiningHead)

    def posterior(
        self,
        pooled: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        kl_weight: float = 1.0,
    ) -> Any:
        """q(z|x) from the pooled features (B, H) that the encoder has read of input_ids (B, T).

        A head that refines does so by the bound of these words with this KL weight; to others the words are nothing.
        Raises ValueError where it has no words, or padding stands before them.
        """
        head = self.model.encoder.posterior
        start = head(pooled)
        if not isinstance(head, RefiningHead):
            return start
        if input_ids is None:
            raise ValueError(
                f"posterior={self.config.posterior!r} is refined by the words: give input_ids, not inputs_embeds alone"
            )
        mask = mask_of(input_ids, attention_mask, self.config)
        mask = torch.ones_like(input_ids) if mask is None else mask
        _refuse_left_padding(mask)

        def costs(latents: torch.Tensor) -> torch.Tensor:
            words, counted = input_ids.clone(), mask.clone()  # which gradients may be taken of under inference_mode too
            states = self.model.decoder(latents.to(self.dtype), words)[0]
            return self._reconstruction(states[-1], words, counted)

        weights = [*self.model.decoder.parameters(), *self.lm_head.parameters()]
        if not weights:
            raise ValueError(
                f"posterior={self.config.posterior!r} cannot run in DataParallel, whose copies of a model have no "
                "parameters: start a process for each GPU, by torchrun; nor with a decoder whose layers are quantised"
            )
        return head.refine(start, costs, weights, kl_weight)

    def _refined(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None = None,
        sample_posterior: bool | None = None,
        output_hidden_states: bool | None = None,
        kl_weight: float = 1.0,
    ) -> SeqVAEEncoderOutput:
        """What the encoder would give, with refined posteriors."""
        states, pooled = self.model.encoder.read(input_ids, attention_mask, inputs_embeds)
        posterior = self.posterior(pooled, input_ids, attention_mask, kl_weight)
        return self.model.encoder.output(states, pooled, posterior, sample_posterior, output_hidden_states)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        encoder_outputs: SeqVAEEncoderOutput | tuple | None = None,
        latents: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        kl_weight: float | None = None,
        sample_posterior: bool | None = None,
        return_logits: bool | None = None,
        cache: SeqVAECache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        past_key_values: SeqVAECache | None = None,
    ) -> SeqVAETextModelingOutput:
        """The negative ELBO (paper, section 2.1), mean over sentences, in nats; logits (B, T, V).

        `labels` (B, T) stand at the positions of the decoder's input and are shifted inside; a target counts where its
        label is not -100 and its token not masked. `kl_weight` defaults to `self.kl_weight`. `return_logits=None`
        leaves the logits out when labels are given in training mode, and `use_cache=None` the cache in either mode. In
        training mode a decoder that has one adds its `auxiliary_loss` to the output, not to the loss. Other arguments:
        SeqVAEModel.forward.
        """
        weight = self.kl_weight if kl_weight is None else kl_weight
        if use_cache is None and labels is not None:
            use_cache = False  # which DataParallel could not put together
        if self.refines and encoder_outputs is None and (input_ids is not None or inputs_embeds is not None):
            encoder_outputs = self._refined(
                input_ids,
                attention_mask,
                inputs_embeds,
                self.training if sample_posterior is None else sample_posterior,
                self.model._wants_states(output_hidden_states),
                weight,
            )
        outputs = self.model(
            input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask, inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds, encoder_outputs=encoder_outputs, latents=latents,
            sample_posterior=sample_posterior, cache=cache, use_cache=use_cache,
            output_hidden_states=output_hidden_states, return_dict=True, past_key_values=past_key_values,
        )  # fmt: skip
        states = outputs.last_hidden_state
        read = next(x for x in (decoder_input_ids, decoder_inputs_embeds, input_ids) if x is not None)  # (B, T, ...)
        if return_logits is None:
            return_logits = labels is None or not self.training
        logits = self.lm_head(states).expand(-1, read.shape[1], -1) if return_logits else None
        loss = reconstruction = auxiliary = None
        if labels is not None:
            if outputs.kl is None:
                raise ValueError("labels need a sentence to encode: give input_ids or inputs_embeds")
            if labels.shape != read.shape[:2]:
                raise ValueError(f"labels are {tuple(labels.shape)}, the decoder's input is {tuple(read.shape[:2])}")
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = input_ids
                decoder_attention_mask = attention_mask if decoder_attention_mask is None else decoder_attention_mask
            mask = mask_of(decoder_input_ids, decoder_attention_mask, self.config)
            reconstruction = self._reconstruction(states, labels, mask, logits)
            if self.training:
                auxiliary = self.model.decoder.auxiliary_loss(outputs.latents.to(self.dtype), *_targets(labels, mask))
            loss = batch_mean(reconstruction + weight * outputs.kl)
        return SeqVAETextModelingOutput(
            loss=loss,
            logits=logits,
            reconstruction_loss=reconstruction,
            kl=outputs.kl,
            latents=outputs.latents,
            pooled=outputs.pooled,
            cache=outputs.cache,
            decoder_hidden_states=outputs.decoder_hidden_states,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            flow_inputs=outputs.flow_inputs,
            kl_per_dimension=outputs.kl_per_dimension,
            auxiliary_loss=auxiliary,
        )

    def _reconstruction(
        self,
        states: torch.Tensor,
        labels: torch.Tensor,
        mask: torch.Tensor | None,
        logits: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """-log p(x|z) of each sentence, (B,) in nats: every token after `<s>`, `</s>` included."""
        targets, counted = _targets(labels, mask)
        return self.model.decoder.nll(self.lm_head, states, targets, counted, logits).sum(1)

    def generate(self, inputs: torch.Tensor | None = None, *arguments: Any, **named: Any) -> Any:
        """As in transformers, with the decoder's state under either of its names: `cache` and `past_key_values`.

        Texts whose posteriors are refined are written from the refined ones. A language model encodes nothing, and
        warns where it is given a text to encode: what its sentences begin with is `decoder_input_ids`.
        """
        state = one_cache(named.pop("cache", None), named.pop("past_key_values", None))
        if state is not None:
            named[CACHE_NAME] = state  # its name in this transformers
        ids, embeds = named.get("input_ids") if inputs is None else inputs, named.get("inputs_embeds")
        if self.config.latent_size == 0 and ids is not None and named.get("decoder_input_ids") is None:
            warnings.warn(
                "latent_size=0 is a language model, without an encoder: of input_ids only the number of rows counts. "
                "Give what sentences begin with as decoder_input_ids",
                stacklevel=2,
            )
        if self.refines and not (ids is None and embeds is None) and named.get("encoder_outputs") is None:
            mask, drawn, states = map(named.get, ("attention_mask", "sample_posterior", "output_hidden_states"))
            with torch.no_grad():
                named["encoder_outputs"] = self._refined(ids, mask, embeds, drawn, states)
        return super().generate(inputs, *arguments, **named)

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, is_first_iteration: bool | None = False, **kwargs: Any
    ) -> dict[str, Any]:
        """The inputs of one step of `generate`. Raises ValueError for prompts of several lengths, or read before."""
        past = kwargs.get(CACHE_NAME)
        if is_first_iteration and past is not None and kwargs.get("decoder_attention_mask") is None:
            # By itself `generate` leaves out what the cache has read only if it is given a mask of the decoder's text.
            length, seen = input_ids.shape[1], past.get_seq_length()
            if length <= seen:
                raise ValueError(
                    f"decoder_input_ids has {length} tokens and the cache has read {seen}: "
                    "give the whole text, the tokens read before included, and at least one more"
                )
            kwargs["next_sequence_length"] = length - seen
        inputs = super().prepare_inputs_for_generation(input_ids, is_first_iteration=is_first_iteration, **kwargs)
        mask = mask_of(input_ids, inputs.pop("decoder_attention_mask", None), self.config)
        if is_first_iteration and mask is not None and not mask.all():
            raise ValueError(
                "decoder_input_ids has padding, which a recurrent decoder would read: "
                "generate from prompts of one length at a time"
            )
        # A padding token that is drawn later on is a word like any other.
        return {**inputs, "decoder_attention_mask": torch.ones_like(inputs["decoder_input_ids"])}

    @torch.no_grad()
    def sample(
        self,
        num_samples: int = 1,
        latents: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        **generation_kwargs: Any,
    ) -> torch.Tensor:
        """Sentences (num_samples, T) written from z ~ p(z), or from given `latents` (N, Z), padded on the right.

        Words are drawn from the model's own distribution (ancestral sampling); any argument of `generate` changes that.
        `generator` decides both z and the words, and the global random state is neither read nor changed. Raises
        ValueError for `num_samples` below 1 and for latents of another shape.
        """
        if latents is None:
            if num_samples < 1:
                raise ValueError(f"num_samples must be at least 1, got {num_samples}")
            like = torch.empty(num_samples, self.config.latent_size, device=self.device, dtype=self.dtype)
            latents = self.prior.rsample(1, like, generator)[0]
        if latents.ndim != 2 or latents.shape[1] != self.config.latent_size:
            raise ValueError(f"latents must be (N, {self.config.latent_size}), got {tuple(latents.shape)}")
        options = with_defaults(generation_kwargs, do_sample=True)
        if options.get("do_sample", getattr(options.get("generation_config"), "do_sample", True)):
            options = with_defaults(options, top_k=0, top_p=1.0)
        start = SeqVAEEncoderOutput(last_hidden_state=latents[:, None], latents=latents)
        with DrawingFrom(generator):
            return self.generate(encoder_outputs=start, **options)

    @torch.no_grad()
    def reconstruct(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **generation_kwargs: Any
    ) -> torch.Tensor:
        """Sentences (B, T) written from the centres of the posteriors, greedily unless `generate` is told otherwise.

        Raises ValueError for a language model.
        """
        self.model._require_latent("reconstruct")
        mask = mask_of(input_ids, attention_mask, self.config)
        return self.generate(
            input_ids=input_ids, attention_mask=mask, **with_defaults(generation_kwargs, do_sample=False)
        )

    @torch.no_grad()
    def iw_nll(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_samples: int = 500,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        encoder_input_ids: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Importance-weighted -log p(x) of each sentence, (B,) in nats (Burda et al. 2016); exact for a language model.

        `latents` (S, B, Z) fixes the draws; `generator` may be one, or one per sentence. `encoder_input_ids` (B, T')
        lets the posterior read another text than the one scored, such as its words shuffled, under a mask of its own,
        `encoder_attention_mask` (B, T'). Memory does not depend on `num_samples`. Scores the model as it stands: call
        `eval()` first, or dropout is part of the estimate. Raises ValueError where padding stands before words, or
        `latents` do not fit the batch.
        """
        mask = mask_of(input_ids, attention_mask, self.config)
        mask = torch.ones_like(input_ids) if mask is None else mask
        _refuse_left_padding(mask)
        if self.config.latent_size == 0:
            return self.nll_given(input_ids.new_empty(1, input_ids.shape[0], 0), input_ids, mask)[0]
        if encoder_input_ids is None:
            posterior = self.encode(input_ids, mask)
        else:
            posterior = self.encode(encoder_input_ids, encoder_attention_mask)
        return importance_weighted_nll(
            posterior,
            lambda z: self.nll_given(z, input_ids, mask),
            num_samples=num_samples,
            samples_at_once=max(1, SENTENCE_TOKENS_AT_ONCE // max(1, input_ids.numel())),
            generator=generator,
            latents=latents,
        )

    def nll_given(self, latents: torch.Tensor, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """-log p(x|z) of each sentence under its latents (S, B, Z), as (S, B) in nats; padding is on the right."""
        return self.token_nll_given(latents, input_ids, mask).sum(-1)

    def token_nll_given(self, latents: torch.Tensor, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The same of each token after `<s>`, (S, B, T - 1): 0 at padding."""
        samples = latents.shape[0]
        ids, mask = input_ids.repeat(samples, 1), mask.repeat(samples, 1)  # (s * B, T)
        states = self.model.decoder.states_under(latents.to(self.dtype), input_ids)
        nll = self.model.decoder.nll(self.lm_head, states, *_targets(ids, mask))
        return nll.unflatten(0, (samples, -1))


def _resets(module: nn.Module) -> bool:
    """Whether a module that is not torch's sets its initial weights itself, and some are still to be set."""
    reset = getattr(type(module), "reset_parameters", None)
    torch_s = reset is None or reset.__module__.startswith("torch.")
    return not torch_s and not getattr(module, "_is_hf_initialized", False)


def _encoder_of(config: SeqVAEConfig) -> Any:
    return ENCODERS[config.encoder](config) if config.latent_size > 0 else NoEncoder()


def _targets(labels: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """What is predicted, every token after the first, and which of them count, (B, T - 1) each."""
    if mask is not None and mask.shape != labels.shape:
        raise ValueError(f"the mask must be {tuple(labels.shape)}, as the decoder's words are, got {tuple(mask.shape)}")
    targets = labels[:, 1:].long()  # as lookups ask for
    counted = targets != -100
    return targets, counted if mask is None else counted & mask[:, 1:].bool()


def _refuse_left_padding(mask: torch.Tensor | None) -> None:
    """Raises ValueError, for which a GPU is waited for, or in a compiled model an error of torch, for which it is not.

    A single token, such as `generate` reads at a time, has nothing before it.
    """
    if mask is None or mask.shape[1] == 1:
        return
    padded = (mask[:, 1:] > mask[:, :-1]).any()
    if torch.compiler.is_compiling():
        torch._assert_async(~padded, LEFT_PADDING)
    elif padded:
        raise ValueError(LEFT_PADDING)


def _encoder_output(given: SeqVAEEncoderOutput | ModelOutput | tuple) -> SeqVAEEncoderOutput:
    """An encoder output that came as a plain tuple or another library's output, by its fields."""
    if isinstance(given, SeqVAEEncoderOutput):
        return given
    if isinstance(given, ModelOutput):
        return SeqVAEEncoderOutput(**given)
    return SeqVAEEncoderOutput(*given)


__all__ = ["SeqVAEForTextModeling", "SeqVAEModel", "SeqVAEPreTrainedModel"]
