"""What every transformers model is expected to do: initialise, save, load, resize, tie, and take part in pipelines."""

import inspect

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, AutoModelForSeq2SeqLM, pipeline

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling, SeqVAEModel
from modeling_seqvae.tokenization import train_tokenizer

ARCHITECTURES = {
    "max": {},
    "layers": {"num_hidden_layers": 2, "encoder_hidden_size": 5},
    "skip": {"decoder_skip": True},
    "attention": {"pooling_mode": "attention"},
    "flow": {"posterior": "planar_flow", "num_flows": 2},
    "sampler": {"posterior": "implicit"},
    "deep sampler": {"posterior": "implicit", "sampler_layers": 2},
    "normalised": {"posterior": "normalised"},
    "vmf": {"posterior": "vmf"},
    "refined": {"posterior": "refined", "refinement_steps": 2},
    "unigram": {"decoder": "unigram"},
    "cnn": {"decoder": "dilated_cnn"},
    "hybrid": {"decoder": "hybrid", "encoder": "convolutional"},
    "cnn lm": {"decoder": "dilated_cnn", "latent_size": 0},
    "lm": {"latent_size": 0},
    "tied": {"tie_word_embeddings": True, "embedding_size": 8},
    "tied lm": {"tie_word_embeddings": True, "embedding_size": 8, "latent_size": 0},
}
CLASSES = [SeqVAEModel, SeqVAEForTextModeling]


@pytest.fixture(params=ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def changes(request: pytest.FixtureRequest) -> dict:
    return request.param


@pytest.fixture(params=CLASSES, ids=lambda cls: cls.__name__)
def cls(request: pytest.FixtureRequest) -> type:
    return request.param


# Signatures and outputs


def test_input_ids_come_first(cls) -> None:
    names = list(inspect.signature(cls.forward).parameters)
    assert names[:3] == ["self", "input_ids", "attention_mask"]
    assert cls.main_input_name == "input_ids"


def test_evaluation_is_deterministic(make_model, batch, cls, changes) -> None:
    model = make_model(cls, **changes)
    first, second = model(batch["input_ids"]), model(batch["input_ids"])
    assert torch.equal(first[0], second[0])


def test_tuples_hold_what_the_outputs_hold(make_model, batch, cls, changes) -> None:
    model = make_model(cls, **changes)
    named = model(batch["input_ids"], output_hidden_states=True, use_cache=False)
    plain = model(batch["input_ids"], output_hidden_states=True, use_cache=False, return_dict=False)
    assert isinstance(plain, tuple)
    torch.testing.assert_close(plain, named.to_tuple())


def test_the_cache_is_returned_only_where_wanted(make_model, batch, cls) -> None:
    model = make_model(cls)
    assert model(batch["input_ids"]).cache is not None
    assert model(batch["input_ids"], use_cache=False).cache is None
    assert make_model(cls, use_cache=False)(batch["input_ids"]).cache is None


@pytest.mark.parametrize("cls", CLASSES)
def test_the_cache_answers_to_its_earlier_name(make_model, batch, cls) -> None:
    """transformers called it past_key_values before 5.24: `generate` then, and people's code, read it by that name."""
    model, ids = make_model(cls), batch["input_ids"][:2]
    out, without = model(ids), model(ids, use_cache=False)
    assert out.past_key_values is out["past_key_values"] is out.get("past_key_values") is out["cache"] is out.cache
    assert "past_key_values" in out and "past_key_values" not in without and without.past_key_values is None
    assert "cache" in list(out) and "past_key_values" not in list(out)
    torch.testing.assert_close(model(ids, past_key_values=out.cache)[0], model(ids, cache=out.cache)[0])
    with pytest.raises(ValueError, match="not as both"):
        model(ids, cache=out.cache, past_key_values=out.cache)


def test_every_hidden_state_keeps_its_gradient(make_model, batch, changes) -> None:
    out = make_model(**changes)(**batch, output_hidden_states=True)
    states = [*(out.encoder_hidden_states or ()), *out.decoder_hidden_states]
    for state in states:
        state.retain_grad()
    out.loss.backward()
    assert all(state.grad is not None for state in states)


def test_every_weight_learns(make_model, batch, changes) -> None:
    model = make_model(**changes).train()
    output = model(**batch)
    (output.loss if output.auxiliary_loss is None else output.loss + output.auxiliary_loss.mean()).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


# Embeddings


def test_input_and_output_embeddings_are_known(make_model, changes) -> None:
    model = make_model(**changes)
    first = model.model.encoder if model.config.latent_size else model.model.decoder
    assert model.get_input_embeddings() is model.model.get_input_embeddings() is first.embed_tokens
    assert model.get_output_embeddings() is model.lm_head
    assert model.get_encoder() is model.model.encoder and model.get_decoder() is model.model.decoder


def test_input_and_output_embeddings_can_be_replaced(make_model, batch) -> None:
    model, embedding, head = make_model(), nn.Embedding(20, 6), nn.Linear(8, 20, bias=False)
    model.set_input_embeddings(embedding)
    model.set_output_embeddings(head)
    assert model.model.encoder.embed_tokens is embedding and model.lm_head is head
    model(**batch).loss.backward()
    assert embedding.weight.grad.any() and head.weight.grad.any()


@pytest.mark.parametrize("size", [12, 25])
def test_resizing_reaches_every_matrix_of_words(make_model, batch, changes, size) -> None:
    model = make_model(**changes)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    model.resize_token_embeddings(size, mean_resizing=False)
    kept = min(size, 20)
    for name, weight in model.named_parameters():
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            assert weight.shape == (size, before[name].shape[1])
            assert torch.equal(weight[:kept], before[name][:kept])
    assert model.config.vocab_size == model.lm_head.out_features == model(batch["input_ids"]).logits.shape[-1] == size
    assert model(**batch).loss.isfinite()
    read = model.model.decoder.embed_tokens
    assert (read is not None and model.lm_head.weight is read.weight) == model.config.tie_word_embeddings


def test_words_that_are_added_can_be_used(make_model, batch, changes) -> None:
    model, ids = make_model(**changes), batch["input_ids"].clone()
    model.resize_token_embeddings(25)
    ids[0, 1] = 24
    model(ids, labels=ids).loss.backward()
    read = model.model.decoder.embed_tokens
    assert read is None or read.weight.grad[24].any()
    assert model.lm_head.weight.grad[24].any()


def test_a_resized_model_is_saved_and_loaded(make_model, batch, changes, tmp_path) -> None:
    model = make_model(**changes)
    model.resize_token_embeddings(20, pad_to_multiple_of=16)
    model.save_pretrained(tmp_path)
    loaded = SeqVAEForTextModeling.from_pretrained(tmp_path)
    assert loaded.config.vocab_size == 32
    assert torch.equal(loaded(batch["input_ids"]).logits, model(batch["input_ids"]).logits)


def test_the_base_model_resizes_too(make_model) -> None:
    model = make_model(SeqVAEModel)
    model.resize_token_embeddings(25)
    assert len(model.encoder.embed_tokens.weight) == len(model.decoder.embed_tokens.weight) == 25


def test_tied_embeddings_are_one_matrix_of_the_decoder(make_model, batch) -> None:
    model = make_model(**ARCHITECTURES["tied"])
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight
    assert model.lm_head.weight is not model.model.encoder.embed_tokens.weight


# Initial weights


def initial_range(name: str, config: SeqVAEConfig) -> float:
    words = "embed_tokens" in name or (config.tie_word_embeddings and "lm_head" in name)
    return config.embedding_initializer_range if words else config.initializer_range


def assert_uniform(name: str, weight: torch.Tensor, bound: float) -> None:
    """Within the bound, and spread over it as a uniform draw is."""
    assert weight.abs().max() <= bound, name
    if weight.numel() >= 100:
        assert weight.abs().max() > 0.95 * bound, name
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.2), name


def test_initial_weights_are_uniform_in_their_range(make_model, changes) -> None:
    sizes = {"vocab_size": 50, "embedding_size": 24, "hidden_size": 24, "latent_size": 8}
    model = make_model(**{**sizes, "initializer_range": 0.01, "embedding_initializer_range": 0.1, **changes,
                          "embedding_size": 24, "encoder_hidden_size": None})  # fmt: skip
    for name, weight in model.named_parameters():
        assert_uniform(name, weight, initial_range(name, model.config))


def test_weights_that_a_checkpoint_lacks_are_initialised_like_new_ones(make_model, changes, tmp_path) -> None:
    model = make_model(**changes)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    lost = {name for name in saved if "weight" in name}
    save_file({k: v for k, v in saved.items() if k not in lost}, tmp_path / "model.safetensors", {"format": "pt"})
    loaded = SeqVAEForTextModeling.from_pretrained(tmp_path)
    for name, weight in loaded.named_parameters():
        bound = initial_range(name, model.config)
        assert weight.device.type == "cpu" and weight.any() and weight.abs().max() <= bound, name
        assert torch.equal(weight, saved[name]) != (name in lost), name


def test_a_model_can_be_built_without_memory(cls) -> None:
    with torch.device("meta"):
        model = cls(SeqVAEConfig())
    assert {weight.device.type for weight in model.parameters()} == {"meta"}


# Checkpoints


def test_a_saved_model_loads_as_it_was(make_model, batch, cls, changes, tmp_path) -> None:
    model = make_model(cls, **changes)
    model.save_pretrained(tmp_path)
    loaded, report = cls.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(loaded(batch["input_ids"])[0], model(batch["input_ids"])[0])


def test_weights_are_saved_as_safetensors_alone(make_model, tmp_path) -> None:
    make_model().save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors"
    }  # fmt: skip


def test_auto_classes_find_the_models(make_model, batch, tmp_path) -> None:
    model = make_model()
    model.save_pretrained(tmp_path)
    base, whole = AutoModel.from_pretrained(tmp_path), AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(base) is SeqVAEModel and type(whole) is SeqVAEForTextModeling
    assert torch.equal(whole(batch["input_ids"]).logits, model(batch["input_ids"]).logits)
    assert torch.equal(base(batch["input_ids"])[0], model.model(batch["input_ids"])[0])


def test_a_whole_checkpoint_loads_without_its_vocabulary_layer_and_without_a_word_about_it(
    make_model, batch, tmp_path
) -> None:
    model = make_model()
    model.save_pretrained(tmp_path)
    base, report = SeqVAEModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert torch.equal(base.encode(batch["input_ids"]).mean, model.encode(batch["input_ids"]).mean)


def test_a_base_checkpoint_loads_under_a_new_vocabulary_layer(make_model, batch, tmp_path) -> None:
    base = make_model(SeqVAEModel)
    base.save_pretrained(tmp_path)
    whole, report = SeqVAEForTextModeling.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) == {"lm_head.weight"}
    assert torch.equal(whole.encode(batch["input_ids"]).mean, base.encode(batch["input_ids"]).mean)


LSTM = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
LANGUAGE_MODEL = {
    "lm_head.weight", "model.decoder.embed_tokens.weight", *(f"model.decoder.layers.0.{name}" for name in LSTM),
}  # fmt: skip
SEQUENCE_VAE = LANGUAGE_MODEL | {
    "model.decoder.initial_cell.weight", "model.encoder.embed_tokens.weight",
    *(f"model.encoder.layers.0.{name}" for name in LSTM),
    "model.encoder.posterior.linear.weight", "model.encoder.posterior.linear.bias",
}  # fmt: skip
GAUSSIAN = {name for name in SEQUENCE_VAE if "posterior" in name}
FLOWS = {f"flows.{i}.{name}" for i in range(2) for name in ("inner.weight", "inner.bias", "outer.weight")}
POSTERIORS = {
    "normalised": {"linear.weight", "linear.bias", "shift.weight", "average", "mean_variance"},
    "vmf": {"linear.weight", "linear.bias"},
    "flow": {"gaussian.linear.weight", "gaussian.linear.bias", *FLOWS},
    "sampler": {"layers.0.weight", "layers.0.bias"},
    "deep sampler": {f"layers.{i}.{name}" for i in range(2) for name in ("weight", "bias")},
}
EXTRA_KEYS = {
    "layers": {f"model.{side}.layers.1.{name}" for side in ("encoder", "decoder") for name in LSTM},
    "skip": {"model.decoder.skip_state.weight", "model.decoder.skip_latent.weight"},
    "attention": {f"model.encoder.pooling.{n}" for n in ("projection.weight", "projection.bias", "score.weight")},
}


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_names_of_weights_are_the_checkpoint_format(make_model, name) -> None:
    """Renaming one breaks every checkpoint that people have."""
    expected = (LANGUAGE_MODEL if "lm" in name else SEQUENCE_VAE) | EXTRA_KEYS.get(name, set())
    if name == "unigram":
        expected = {key for key in expected if "decoder" not in key} | {"lm_head.bias"}
    if "cnn" in name:
        blocks = {f"blocks.{i}.{part}" for i in range(3) for part in ("narrow", "convolution", "widen")}
        layers = {f"model.decoder.{part}.{kind}" for part in ("input", *blocks) for kind in ("weight", "bias")}
        expected = {key for key in expected if "decoder.layers" not in key and "initial_cell" not in key} | layers
    if name == "hybrid":
        convolutions = {f"model.encoder.layers.{i}.convolution" for i in range(2)}
        written = {f"model.decoder.deconvolution.{part}" for part in ("blocks", "layers.0", "layers.1")}
        layers = {f"{part}.{kind}" for part in (*convolutions, *written) for kind in ("weight", "bias")}
        expected = {key for key in expected if "encoder.layers" not in key and "initial_cell" not in key} | layers
        expected |= {"model.decoder.auxiliary.weight"}
    if name in POSTERIORS:
        expected = expected - GAUSSIAN | {f"model.encoder.posterior.{key}" for key in POSTERIORS[name]}
    assert set(make_model(**ARCHITECTURES[name]).state_dict()) == expected


@pytest.mark.parametrize("device_map", ["cpu", "auto"])
def test_device_maps_load(make_model, batch, cls, device_map, tmp_path) -> None:
    model = make_model(cls)
    model.save_pretrained(tmp_path)
    loaded = cls.from_pretrained(tmp_path, device_map=device_map)
    assert torch.equal(loaded(batch["input_ids"])[0], model(batch["input_ids"])[0])


def test_bfloat16_models_score_and_write(make_model, batch, changes, tmp_path) -> None:
    model = make_model(**changes)
    model.save_pretrained(tmp_path)
    half = SeqVAEForTextModeling.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(half(**batch).loss, model(**batch).loss, rtol=0.03, atol=0)
    bound = half.iw_nll(batch["input_ids"], num_samples=3)
    assert bound.dtype == torch.float32 and bound.isfinite().all()
    latents = torch.randn(2, model.config.latent_size)  # float32, as an encoder of another precision gives them
    for options in ({"latents": latents}, {"num_samples": 2, "num_beams": 2}):
        assert half.sample(**options, max_length=6).shape[0] == 2
    half.train()(**batch).loss.backward()


@pytest.mark.parametrize("cls", CLASSES)
def test_feature_extraction_pipelines_return_the_first_output(make_model, cls) -> None:
    tokenizer = train_tokenizer(["the food was great", "the food was cold"], vocabulary_size=16)
    model = make_model(cls, vocab_size=len(tokenizer))
    extract = pipeline("feature-extraction", model=model, tokenizer=tokenizer, device="cpu")
    expected = model(**tokenizer("the food was cold", return_tensors="pt"))[0]
    torch.testing.assert_close(torch.tensor(extract("the food was cold")), expected)
