"""SeqVAEConfig: everything a checkpoint needs to be rebuilt."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import GenerationConfig, PreTrainedConfig

from .convolutional_decoders import DECODERS
from .encoders import ENCODERS
from .imported_parts import MODULES  # noqa: F401  (what they register comes with the import)
from .pooling import POOLINGS
from .posteriors import POSTERIORS
from .registry import Registry

FORMAT_VERSION = 2
"""What the fields and weights of a checkpoint mean. It rises when older code would misread what newer code writes.

This code reads all versions up to this one, and writes the oldest that has what a checkpoint needs: 2 for decoders
and encoders other than `lstm`, else 1. A checkpoint that does not say is of version 1.
"""


COLLAPSED_BELOW = 0.1
"""Nats of KL per sentence under which a latent is as good as ignored."""


MOST_CONCENTRATION = 100_000
"""κ up to which float64 has the density's constant to nine digits."""


PARTS = {"encoder": ENCODERS, "pooling_mode": POOLINGS, "posterior": POSTERIORS, "decoder": DECODERS}
"""Fields that name a part, and the parts that there are. In place of a name they take the part itself."""

RESERVED = frozenset(GenerationConfig().to_dict()) | {
    "attn_implementation", "auto_map", "cache_dir", "custom_pipelines", "device_map", "dtype", "experts_implementation",
    "force_download", "format_version", "gguf_file", "kwargs", "layer_types", "local_files_only", "name_or_path",
    "num_labels", "output_attentions", "per_layer_config", "proxies", "quantization_config", "revision",
    "rope_parameters", "rope_scaling", "rope_theta", "self", "state_dict", "subfolder", "token", "torch_dtype",
    "trust_remote_code", "use_safetensors", "variant",
}  # fmt: skip
"""What transformers gives another meaning in a configuration or beside it, such as the arguments of `generate`."""


@strict
class SeqVAEConfig(PreTrainedConfig):
    r"""The sizes and choices of a sequence VAE.

    `encoder`, `pooling_mode`, `posterior` and `decoder` take the name of a part, or a part of your own itself. Options
    that such a part was registered with are fields too. A model takes its parts and sizes from here once, when it is
    built: of a model that is there change dropouts alone.

    Args:
        vocab_size: Number of tokens, special tokens included.
        embedding_size: Width of the encoder's and of the decoder's word embeddings.
        hidden_size: Width of the decoder's LSTM, or of its blocks.
        encoder: What reads the sentence: `lstm`, or `convolutional`, convolutions that halve the number of states each.
        encoder_hidden_size: Width of the encoder's LSTM, or of its last convolution; `None` means `hidden_size`.
        num_hidden_layers: LSTM layers, in the encoder and in the decoder where these have any.
        conv_layers: Convolutions of a `convolutional` encoder, and of a `hybrid` decoder before its LSTM.
        latent_size: Dimensions of z. 0 is a language model, the decoder alone: no encoder, KL 0, exact likelihood.
        pooling_mode: How the encoder's states become one vector: `last`, `avg`, `max`, `abs` or `attention`.
        posterior: Family of q(z|x): `gaussian` (diagonal covariance), `normalised` (the same, its means normalised over
            the batch, as in BN-VAE), `planar_flow` (planar flows of a Gaussian, as in WAE-RNF), `implicit` (a sampler
            of features and noise, as in iVAE), `vmf` (von Mises-Fisher on the unit sphere, uniform prior there) or
            `refined` (Gaussian, improved for each sentence by gradient steps, as in SA-VAE).
        mean_scale: Standard deviation of the means of a `normalised` posterior in each dimension, γ of Zhu et al.
            (2020); the KL is at least latent_size * mean_scale**2 / 2 nats per sentence.
        num_flows: Flows of a `planar_flow` posterior.
        sampler_layers: Layers of an `implicit` posterior's sampler; 1 is linear, and its density exact.
        concentration: Of a `vmf` posterior, κ of Xu and Durrett (2018): it decides the KL, which is the same for all
            sentences.
        refinement_steps: Of a `refined` posterior, K of Kim et al. (2018); 0 is `gaussian`.
        refinement_rate: Its step size, on the gradient of a sentence's own bound.
        refinement_momentum: The share of a step that the next one repeats.
        refinement_clip: The largest norm of a sentence's gradient in the mean, and of that in the log-variance.
        decoder: What writes the sentence: `lstm`; `dilated_cnn`, dilated convolutions over the last words; `hybrid`, an
            LSTM over words and what deconvolutions of z write at each position; or `unigram`, which draws every token
            from softmax(W z + b) without reading the words before it; dropout does nothing there.
        cnn_size: Of a `dilated_cnn` decoder, `small`, `medium` or `large`: a prediction depends on the last 15, 63 or
            125 tokens (Yang et al. 2017). Its blocks are `hidden_size` wide, and half of that inside.
        deconv_length: Positions that a `hybrid` decoder's deconvolutions write; behind them its LSTM reads zeros.
        auxiliary_weight: Of a `hybrid` decoder, what the deconvolutions' own reconstruction counts in training, α of
            Semeniuta et al. (2017). No likelihood has a part of it.
        decoder_skip: Whether z also reaches the vocabulary layer directly (SkipVAE, Dieng et al. 2019).
        embedding_dropout: Dropout on the decoder's word embeddings.
        output_dropout: Dropout on what the vocabulary layer reads.
        word_dropout: Probability that a decoder input word becomes the unknown token in training (Bowman et al. 2016).
        encoder_word_dropout: The same for a word that the encoder reads, so that z must tell more of a text than the
            encoder was shown of it, and does not learn the training texts by heart.
        initializer_range: Weights start uniform in [-initializer_range, initializer_range].
        embedding_initializer_range: The same for both embeddings.
        vocabulary_hash: Stands for the tokenizer's words and their ids, by `tokenization.vocabulary_hash`; `SeqVAE`
            refuses a tokenizer with others. None, as in older checkpoints and after a resize, compares no words.
        validation_kl: The KL of these weights on their validation set in nats per sentence, which `SeqVAETrainer` notes
            in a checkpoint; `SeqVAE` warns where it says that the posterior has collapsed. None is unknown, as it is
            once the model is trained further.
        validation_mi: The same for the mutual information of sentence and latent, which tells where the KL has a floor.

    Raises ValueError that names the field when a value is not usable, and huggingface_hub's
    StrictDataclassFieldValidationError when it is of the wrong type. A part that nobody has registered is told when the
    model is built, where the configuration is of a checkpoint that carries its code. What is saved also holds
    `format_version`.
    """

    model_type = "seqvae"
    keys_to_ignore_at_inference = [
        "reconstruction_loss", "kl", "latents", "pooled", "cache", "decoder_hidden_states",
        "encoder_last_hidden_state", "encoder_hidden_states", "flow_inputs", "kl_per_dimension",
    ]  # fmt: skip

    vocab_size: int = 20004
    embedding_size: int = 512
    hidden_size: int = 1024
    encoder: Any = "lstm"
    encoder_hidden_size: int | None = None
    num_hidden_layers: int = 1
    conv_layers: int = 2
    latent_size: int = 32
    pooling_mode: Any = "max"
    posterior: Any = "gaussian"
    mean_scale: float | int = 0.5
    num_flows: int = 3
    sampler_layers: int = 1
    concentration: float | int = 20.0
    refinement_steps: int = 20
    refinement_rate: float | int = 0.03125
    refinement_momentum: float | int = 0.5
    refinement_clip: float | int = 28.0
    decoder: Any = "lstm"
    cnn_size: str = "small"
    deconv_length: int = 256
    auxiliary_weight: float | int = 0.2
    decoder_skip: bool = False
    embedding_dropout: float | int = 0.5
    output_dropout: float | int = 0.5
    word_dropout: float | int = 0.0
    encoder_word_dropout: float | int = 0.0
    initializer_range: float | int = 0.01
    embedding_initializer_range: float | int = 0.1
    vocabulary_hash: str | None = None
    validation_kl: float | int | None = None
    validation_mi: float | int | None = None
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    unk_token_id: int = 3
    decoder_start_token_id: int | None = None
    is_encoder_decoder: bool = True
    use_cache: bool = True
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.encoder_hidden_size is None:
            self.encoder_hidden_size = self.hidden_size
        if self.decoder_start_token_id is None:
            self.decoder_start_token_id = self.bos_token_id
        kwargs.pop("format_version", None)  # of what was read; this is of the present version
        if self._auto_class is None:  # the package has its own pipelines; code of a checkpoint runs the one beside it
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)
        self.require_valid()

    def require_valid(self) -> None:
        """Raise ValueError that names a field whose value cannot be: fields may have been set since construction."""
        # The library also runs these, but wraps what they raise in an exception that is no ValueError.
        self.validate_sizes()
        self.validate_tokens()
        self.validate_choices()
        self.validate_probabilities()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """The configuration of a dictionary, as in transformers. Raises ValueError for one of a later format."""
        version = config_dict.get("format_version", 1)
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise ValueError(
                f"this checkpoint is of format {version!r}, and this version of seqvae reads formats up to "
                f"{FORMAT_VERSION}: install a later version of seqvae"
            )
        return super().from_dict(config_dict, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """All fields, with the version of their format."""
        fields = super().to_dict() | {"format_version": self._format()}
        if self._auto_class is None:  # then code that came with a checkpoint is not saved with it either
            fields.pop("auto_map", None)
        return fields

    def _format(self) -> int:
        """The oldest format that has what this model needs."""
        return 1 if (self.encoder, self.decoder) == ("lstm", "lstm") else FORMAT_VERSION

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Any:
        """Itself: `decoder` is a name here, where composite models of transformers have a configuration."""
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep a value; of a part that is given itself, the name."""
        if name in PARTS:
            try:
                value = PARTS[name].name_of(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        before = vars(self).get(name)
        super().__setattr__(name, value)
        if name in PARTS:
            if before is not None and before != value:
                for option in PARTS[name].options_of(before).keys() & vars(self).keys():
                    delattr(self, option)
            self._take_defaults(name)

    def _take_defaults(self, field: str) -> None:
        """Give the options of a part that are not set yet their defaults."""
        for option, default in self._declared(field).items():
            if option not in vars(self):
                setattr(self, option, default)

    def _declared(self, *fields: str) -> dict[str, Any]:
        """The options of the parts in these fields, with their defaults. Raises ValueError for a name that is taken."""
        found: dict[str, Any] = {}
        for field in fields:
            part = getattr(self, field)
            for option, default in PARTS[field].options_of(part).items():
                if option in found or option in RESERVED or option[0] == "_" or hasattr(type(self), option):
                    raise ValueError(
                        f"{field}={part!r} has an option {option!r}, which is the name of something else: rename it"
                    )
                found[option] = default
        return found

    def chosen_parts(self) -> list[tuple[Registry, str]]:
        """The parts that this configuration names: the registry and the name of each."""
        return [(parts, getattr(self, field)) for field, parts in PARTS.items()]

    def options_of(self, *fields: str) -> dict[str, Any]:
        """What is chosen for the options that the parts in these fields have, which are parts of your own."""
        return {option: getattr(self, option, default) for option, default in self._declared(*fields).items()}

    def validate_sizes(self) -> None:
        """Every width is at least one; a latent of no dimensions is a language model."""
        for field in (
            "vocab_size", "embedding_size", "hidden_size", "encoder_hidden_size", "num_hidden_layers", "num_flows",
            "sampler_layers", "conv_layers", "deconv_length",
        ):  # fmt: skip
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if self.refinement_steps < 0:
            raise ValueError(f"refinement_steps must be 0 or more, got {self.refinement_steps}")
        if self.latent_size < 0:
            raise ValueError(f"latent_size must be 0 (a language model) or more, got {self.latent_size}")
        if self.posterior == "vmf" and self.latent_size == 1:
            raise ValueError("posterior='vmf' needs latent_size 2 or more: in one dimension the sphere is two points")
        if self.decoder_skip and self.latent_size == 0:
            raise ValueError("decoder_skip=True needs a latent to skip from: latent_size is 0")
        if self.tie_word_embeddings and self.embedding_size != self.hidden_size:
            raise ValueError(
                "tie_word_embeddings=True needs embedding_size equal to hidden_size, "
                f"got {self.embedding_size} and {self.hidden_size}"
            )

    def validate_tokens(self) -> None:
        """Padding is no other token: what looks like padding is neither read nor predicted."""
        for name in ("bos_token_id", "eos_token_id", "unk_token_id"):
            ids = getattr(self, name)
            if self.pad_token_id is not None and self.pad_token_id in (ids if isinstance(ids, list) else [ids]):
                raise ValueError(
                    f"pad_token_id and {name} are both {self.pad_token_id}: padding needs a token of its own, which "
                    "modeling_seqvae.prepare_tokenizer(tokenizer) adds"
                )

    def validate_choices(self) -> None:
        """Encoder, aggregation, posterior and decoder are known names, and encoder and decoder can be built.

        What is read of a checkpoint that carries its code may name parts that this brings along: a model asks for them.
        """
        if not hasattr(self, "auto_map"):
            self.require_parts()
        if self.decoder in DECODERS:
            DECODERS[self.decoder].require(self)
        if self.encoder in ENCODERS and self.latent_size:
            ENCODERS[self.encoder].require(self)

    def require_parts(self) -> None:
        """Raise ValueError that names the field whose part nobody has registered, or an option of another type."""
        for field, parts in PARTS.items():
            try:
                parts[getattr(self, field)]
            except ValueError as error:
                raise ValueError(f"{field}={error}") from None
            self._take_defaults(field)
        for option, default in self._declared(*PARTS).items():
            value = getattr(self, option)
            if type(value) is not type(default) and (type(default), type(value)) != (float, int):
                raise ValueError(f"{option} must be of the type of its default {default!r}, got {value!r}")

    def validate_probabilities(self) -> None:
        """Dropouts and momentum are probabilities, ranges not negative; scales, rates and concentration positive."""
        dropouts = ("embedding_dropout", "output_dropout", "word_dropout", "encoder_word_dropout")
        for field in (*dropouts, "refinement_momentum"):
            if not 0 <= getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 0 and below 1, got {getattr(self, field)}")
        for field in ("initializer_range", "embedding_initializer_range", "auxiliary_weight"):
            if not getattr(self, field) >= 0:  # as nan is, which a JSON file may hold
                raise ValueError(f"{field} must not be negative, got {getattr(self, field)}")
        for field in ("mean_scale", "refinement_rate", "refinement_clip"):
            if not getattr(self, field) > 0:
                raise ValueError(f"{field} must be above 0, got {getattr(self, field)}")
        if not 0 < self.concentration <= MOST_CONCENTRATION:
            most = f"at most {MOST_CONCENTRATION:,}"
            raise ValueError(f"concentration must be above 0 and {most}, got {self.concentration}")


__all__ = ["SeqVAEConfig"]
