"""The configuration: what a checkpoint needs to be rebuilt, and nothing that cannot be built."""

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoConfig

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.pooling import POOLINGS
from modeling_seqvae.posteriors import POSTERIORS


def test_defaults_are_the_papers_setting() -> None:
    config = SeqVAEConfig()
    assert (config.embedding_size, config.hidden_size, config.num_hidden_layers, config.latent_size) == (
        512,
        1024,
        1,
        32,
    )
    assert (config.pooling_mode, config.posterior, config.decoder_skip) == ("max", "gaussian", False)
    assert (config.embedding_dropout, config.output_dropout, config.word_dropout) == (0.5, 0.5, 0.0)
    assert (config.initializer_range, config.embedding_initializer_range) == (0.01, 0.1)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id, config.unk_token_id) == (0, 1, 2, 3)


def test_it_is_an_encoder_decoder_that_starts_with_the_bos_token() -> None:
    config = SeqVAEConfig(bos_token_id=7)
    assert config.is_encoder_decoder
    assert config.decoder_start_token_id == 7
    assert SeqVAEConfig(decoder_start_token_id=5).decoder_start_token_id == 5


def test_the_encoder_is_as_wide_as_the_decoder_unless_told_otherwise() -> None:
    assert SeqVAEConfig(hidden_size=12).encoder_hidden_size == 12
    assert SeqVAEConfig(hidden_size=12, encoder_hidden_size=7).encoder_hidden_size == 7


def test_a_saved_configuration_comes_back(tmp_path) -> None:
    config = SeqVAEConfig(
        vocab_size=99, encoder_hidden_size=7, pooling_mode="abs", word_dropout=0.25, latent_size=4,
        posterior="implicit", num_flows=5, sampler_layers=2,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    for loaded in (SeqVAEConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert isinstance(loaded, SeqVAEConfig)
        assert loaded.to_diff_dict() == config.to_diff_dict()


@pytest.mark.parametrize("mode", list(POOLINGS))
def test_every_aggregation_is_accepted(mode: str) -> None:
    assert SeqVAEConfig(pooling_mode=mode).pooling_mode == mode


@pytest.mark.parametrize("posterior", list(POSTERIORS))
def test_every_posterior_is_accepted(posterior: str) -> None:
    config = SeqVAEConfig(posterior=posterior)
    assert (config.posterior, config.num_flows, config.sampler_layers) == (posterior, 3, 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 0),
        ("embedding_size", 0),
        ("hidden_size", 0),
        ("encoder_hidden_size", 0),
        ("num_hidden_layers", 0),
        ("latent_size", -1),
        ("pooling_mode", "mean"),
        ("posterior", "uniform"),
        ("num_flows", 0),
        ("sampler_layers", 0),
        ("embedding_dropout", 1.0),
        ("output_dropout", -0.1),
        ("word_dropout", 1.5),
        ("encoder_word_dropout", 1.0),
        ("initializer_range", -0.01),
        ("embedding_initializer_range", -1),
        *((field, float("nan")) for field in ("mean_scale", "refinement_rate", "refinement_clip", "auxiliary_weight")),
    ],
)
def test_an_unusable_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        SeqVAEConfig(**{field: value})
    config = SeqVAEConfig(vocab_size=9, embedding_size=4, hidden_size=4, latent_size=2)
    with pytest.raises(ValueError, match=field):  # as where `from_pretrained` is given it beside a checkpoint
        setattr(config, field, value)
        SeqVAEForTextModeling(config)


def test_an_unknown_aggregation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'mean' is not one of last, avg, max, abs, attention"):
        SeqVAEConfig(pooling_mode="mean")
    with pytest.raises(ValueError, match="pooling_mode: 3 is not one of last, avg, max, abs, attention"):
        SeqVAEConfig(pooling_mode=3)


def test_a_skip_connection_without_a_latent_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decoder_skip.*latent_size is 0"):
        SeqVAEConfig(latent_size=0, decoder_skip=True)


def test_tied_embeddings_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="embedding_size equal to hidden_size, got 4 and 8"):
        SeqVAEConfig(tie_word_embeddings=True, embedding_size=4, hidden_size=8)


@pytest.mark.parametrize("other", ["bos", "eos", "unk"])
def test_a_padding_token_that_stands_for_something_else_is_refused(other: str) -> None:
    """Without a mask padding is told by its token: `</s>` would not be predicted, and unknown words not be read."""
    with pytest.raises(ValueError, match=f"pad_token_id and {other}_token_id are both 7: .*prepare_tokenizer"):
        SeqVAEConfig(**{"pad_token_id": 7, f"{other}_token_id": 7})
    with pytest.raises(ValueError, match="pad_token_id and eos_token_id are both 7"):
        SeqVAEConfig(pad_token_id=7, eos_token_id=[2, 7])
    assert SeqVAEConfig(pad_token_id=None).pad_token_id is None


@pytest.mark.parametrize(
    ("field", "value"), [("hidden_size", "8"), ("cnn_size", 3), ("unk_token_id", None), ("decoder_skip", "no")]
)
def test_a_value_of_the_wrong_type_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(StrictDataclassFieldValidationError, match=field):
        SeqVAEConfig(**{field: value})
