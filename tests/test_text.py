import copy
import json
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor

import accelerate
import numpy as np
import pandas as pd
import pytest
import torch
from packaging.version import Version
from transformers import BertConfig, GenerationConfig

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.embedding_formats import as_embeddings, cosines
from modeling_seqvae.evaluation.positions import piece_costs
from modeling_seqvae.latent_space import spherical
from modeling_seqvae.noise import sentence_generator
from modeling_seqvae.text import SeqVAE
from modeling_seqvae.text_batches import FEATURES
from modeling_seqvae.tokenization import decode_sentences, train_tokenizer, vocabulary_hash

SENTENCE = "the food was great but service felt slow and cold today we loved every bite"
WORDS = SENTENCE.split()
LATENT, HIDDEN = 3, 10


def random_texts(count: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(1, 12))) for _ in range(count)]


def build(latent_size: int = LATENT, posterior: str = "gaussian", encoder: str = "lstm", **tokenizer_options) -> SeqVAE:
    """A model with random weights large enough that its sentences differ."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer([SENTENCE], **tokenizer_options)
    config = SeqVAEConfig(
        vocab_size=len(tokenizer),
        embedding_size=6,
        hidden_size=8,
        encoder_hidden_size=HIDDEN,
        latent_size=latent_size,
        posterior=posterior,
        encoder=encoder,
        initializer_range=0.8,
    )
    model = SeqVAEForTextModeling(config)
    model.generation_config.max_length = 15
    return SeqVAE(model, tokenizer)


@pytest.fixture
def vae() -> SeqVAE:
    return build()


@pytest.fixture
def language_model() -> SeqVAE:
    return build(latent_size=0)


@pytest.fixture
def checkpoint(vae, tmp_path):
    vae.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def tensors(vae: SeqVAE, texts: list[str]):
    return vae.tokenizer(texts, return_tensors="pt", padding=True)


# encode


@torch.no_grad()
def test_features_are_those_of_the_model_on_the_tensors(vae):
    texts = random_texts(9)
    posterior = vae.model.encode(**tensors(vae, texts))
    pooled = vae.model(**tensors(vae, texts)).pooled
    mean, both = vae.encode(texts, features="mean"), vae.encode(texts)
    assert both.dtype == mean.dtype == np.float32
    np.testing.assert_allclose(both, torch.cat([posterior.mean, posterior.variance], 1), atol=1e-6)
    np.testing.assert_allclose(mean, posterior.mean, atol=1e-6)
    np.testing.assert_allclose(vae.encode(texts, features="pooled"), pooled, atol=1e-6)


@pytest.mark.parametrize(
    "features, columns", [("mean", LATENT), ("mean_variance", 2 * LATENT), ("centre", LATENT), ("pooled", HIDDEN)]
)
def test_each_column_has_a_name(vae, features, columns):
    names = vae.feature_names(features)
    assert len(set(names)) == len(names) == columns
    assert vae.encode(["the food"], features=features).shape == (1, columns)


def test_features_do_not_depend_on_batch_size_window_or_order_of_the_list(vae, monkeypatch):
    texts = random_texts(23)
    expected = vae.encode(texts, batch_size=1)
    for batch_size in (2, 7, 100):
        np.testing.assert_allclose(vae.encode(texts, batch_size=batch_size), expected, atol=1e-6)
    monkeypatch.setattr("modeling_seqvae.text_batches.WINDOW_BATCHES", 2)  # several windows in one call
    order = np.random.default_rng(1).permutation(len(texts))
    shuffled = vae.encode([texts[i] for i in order], batch_size=4)
    np.testing.assert_allclose(shuffled, expected[order], atol=1e-6)


# as sentence-transformers' users expect


def test_rows_of_length_one_and_tensors(vae):
    texts = random_texts(7)
    plain = vae.encode(texts, "mean")
    unit = vae.encode(texts, "mean", normalize_embeddings=True)
    np.testing.assert_allclose(unit, plain / np.linalg.norm(plain, axis=1, keepdims=True), rtol=1e-5)
    tensor = vae.encode(texts, "mean", convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor) and tensor.device == vae.device
    np.testing.assert_array_equal(tensor.numpy(), plain)
    assert vae.encode("the food", "mean", convert_to_tensor=True).shape == (LATENT,)


def test_a_tensor_can_be_learned_from(vae):
    head = torch.nn.Linear(2 * LATENT, 1)
    head(vae.encode(["the food"], convert_to_tensor=True)).sum().backward()
    assert head.weight.grad.abs().max() > 0


@pytest.mark.parametrize("precision", ["float32", "int8", "ubinary"])
def test_features_that_are_not_finite_are_told_by_index(vae, precision):
    """In eight bits or one they would look like any others."""
    with torch.no_grad():
        vae.model.get_encoder().embed_tokens.weight[vae.tokenizer.convert_tokens_to_ids("food")] = torch.nan
    with pytest.raises(FloatingPointError, match=r"features of texts\[1\] are not finite numbers"):
        vae.encode(["the", "the food", "food"], precision=precision)


def test_eight_bits_of_a_row_do_not_depend_on_the_others(vae):
    texts = random_texts(9)
    plain = vae.encode(texts)
    bits = vae.encode(texts, precision="int8")
    assert bits.dtype == np.int8
    np.testing.assert_array_equal(bits, np.clip(np.round(plain * 127 / 4), -127, 127))
    np.testing.assert_array_equal(vae.encode(texts[3], precision="int8"), bits[3])
    unsigned = vae.encode(texts, precision="uint8")
    assert unsigned.dtype == np.uint8
    np.testing.assert_array_equal(unsigned, bits.astype(int) + 128)
    unit = vae.encode(texts, "pooled", normalize_embeddings=True)
    eighth = vae.encode(texts, "pooled", normalize_embeddings=True, precision="int8")
    np.testing.assert_array_equal(eighth, np.clip(np.round(unit * 127 * HIDDEN**0.5 / 4), -127, 127))


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("normalize", [False, True])
def test_cosines_of_eight_bits_are_those_of_the_features(features, normalize):
    """Variances too, some of which are larger than the prior's."""
    torch.manual_seed(0)
    block = {"variance": torch.rand(50, 16) * 1.5, "pooled": torch.rand(50, 16) * 2 - 1}
    rows = torch.cat([block.get(name, torch.randn(50, 16)) for name in FEATURES[features]], 1)
    bits = as_embeddings(rows, 1.0 if features == "pooled" else 4.0, normalize, "int8")
    torch.testing.assert_close(cosines(bits, bits), cosines(rows, rows), rtol=0, atol=0.03)


@pytest.mark.parametrize(
    "parts", [{}, {"posterior": "vmf", "latent_size": 32}, {"encoder": "convolutional"}], ids=["lstm", "vmf", "conv"]
)
@pytest.mark.parametrize("features", ["mean", "centre", "pooled"])
def test_eight_bits_hold_the_features_of_every_model(parts, features):
    """Coordinates on a sphere are small, and the states of convolutions large."""
    vae, texts = build(**parts), random_texts(40)
    exact, bits = vae.encode(texts, features), vae.encode(texts, features, precision="int8")
    assert np.mean(np.abs(bits) == 127) < 0.01
    vae.model.get_encoder().largest = 0.01 * np.abs(exact).max()
    if features == "pooled":
        with pytest.warns(UserWarning, match="more than 1% of the values are above .*, the largest that int8 holds"):
            vae.encode(texts, features, precision="int8")
    np.testing.assert_allclose(vae.similarity(bits, bits), vae.similarity(exact, exact), rtol=0, atol=0.02)


@pytest.mark.parametrize("features", ["mean_variance", "pooled"])
def test_signs_are_packed_as_numpy_packs_them(vae, features):
    texts = random_texts(9)
    expected = np.packbits(vae.encode(texts, features) > 0, axis=1)
    found = vae.encode(texts, features, precision="ubinary")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    signed = vae.encode(texts, features, precision="binary")
    assert signed.dtype == np.int8
    np.testing.assert_array_equal(signed, expected.astype(int) - 128)
    assert vae.encode([], features, precision="ubinary").shape == (0, expected.shape[1])


def test_similarity_is_the_cosine(vae):
    rows = vae.encode(random_texts(6), "mean")
    expected = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in rows[:2]] for a in rows]
    np.testing.assert_allclose(vae.similarity(rows, rows[:2]), expected, rtol=1e-5, atol=1e-6)
    assert vae.similarity(rows[0], rows).shape == (1, 6)
    assert isinstance(vae.similarity(torch.tensor(rows), rows), torch.Tensor)
    with pytest.raises(ValueError, match=r"\(6, 3\) and \(6, 2\)"):
        vae.similarity(rows, rows[:, :2])


@pytest.mark.parametrize("precision", ["uint8", "binary", "ubinary"])
def test_rows_that_are_no_vectors_have_no_similarity(vae, precision):
    rows, plain = (vae.encode(random_texts(4), "mean_variance", precision=each) for each in (precision, "int8"))
    assert np.diag(vae.similarity(plain, plain)).round(3).tolist() == [1.0] * 4
    for pair in ((rows, rows), (plain, rows), (torch.tensor(rows), torch.tensor(rows))):
        with pytest.raises(ValueError, match="encode with float32 or int8"):
            vae.similarity(*pair)


def test_a_precision_that_does_not_exist_is_told_before_the_work(vae, monkeypatch):
    monkeypatch.setattr(vae, "_batches", None)
    with pytest.raises(ValueError, match="precision='int4' is not one of float32, int8"):
        vae.encode(["the food"], precision="int4")


@pytest.mark.parametrize(
    "change", [lambda vae: vae.half(), lambda vae: vae.to(torch.bfloat16), lambda vae: vae.to("cpu")]
)
def test_it_moves_to_devices_and_types(vae, change):
    texts, before = random_texts(4), vae.encode(random_texts(4), "mean")
    assert change(vae) is vae
    np.testing.assert_allclose(vae.encode(texts, "mean"), before, atol=0.03)
    assert vae.encode(texts).dtype == np.float32 and len(vae.sample(2, seed=0)) == 2
    assert np.isfinite(vae.nll(texts, 4)).all()


def test_sentences_begin_with_the_prompt(vae, language_model):
    for model in (vae, language_model):
        written = model.sample(4, seed=3, prompt="the food was")
        assert all(text.startswith("the food was") for text in written) and len(set(written)) > 1
        assert written == model.sample(4, seed=3, prompt="the food was")
    assert vae.sample(3, seed=1, prompt="") == vae.sample(3, seed=1)
    assert all(text.startswith("we loved") for text in vae.decode(np.eye(LATENT), prompt="we loved"))
    assert vae.reconstruct("the food", prompt="slow").startswith("slow")


def test_what_cannot_be_a_prompt_is_told(vae):
    with pytest.warns(UserWarning, match="1 of the 2 words of the prompt 'the pizza'") as record:
        assert vae.sample(1, seed=0, prompt="the pizza")[0].startswith("the <unk>")
    assert [warning.filename for warning in record] == [__file__]
    vae.model.generation_config.max_length, before = 3, vae.model.generation_config.max_length
    with pytest.raises(ValueError, match=r"the prompt has 2 tokens, and a sentence at most 2, .*give max_new_tokens"):
        vae.sample(1, prompt="the food")
    own = copy.deepcopy(vae.model.generation_config)
    own.max_length = 9
    for options in ({"max_new_tokens": 1}, {"max_length": 9}, {"generation_config": own}):
        assert vae.sample(1, prompt="the food", **options)[0].startswith("the food")
    vae.model.generation_config.max_length = before
    with pytest.raises(ValueError, match="either prompt"):
        vae.sample(1, prompt="the", decoder_input_ids=[[1, 4]])
    with pytest.raises(TypeError, match="prompt must be a string, got list"):
        vae.sample(2, prompt=["the", "food"])


def test_one_string_gives_one_vector(vae):
    text = "the food was great"
    assert vae.encode(text).shape == (2 * LATENT,)
    np.testing.assert_allclose(vae.encode(text), vae.encode([text])[0], atol=1e-6)


@pytest.mark.parametrize(
    "container",
    [tuple, iter, np.array, lambda texts: np.array(texts, dtype=object), pd.Series],
    ids=["tuple", "iterator", "array", "object array", "series"],
)
def test_any_iterable_of_strings_is_a_list_of_texts(vae, container):
    texts = random_texts(5)
    np.testing.assert_array_equal(vae.encode(container(texts)), vae.encode(texts))


def test_an_empty_list_gives_empty_results(vae):
    assert vae.encode([]).shape == (0, 2 * LATENT)
    assert vae.encode([], features="pooled").shape == (0, HIDDEN)
    assert vae.encode([]).dtype == np.float32
    assert vae.reconstruct([]) == vae.sample(0) == vae.decode(np.empty((0, LATENT))) == vae.decode([]) == []
    assert vae.nll([]).shape == (0,)


def test_the_empty_text_is_a_sentence_without_words(vae):
    ends = torch.tensor([[vae.model.config.bos_token_id, vae.model.config.eos_token_id]])
    with torch.no_grad():
        expected = vae.model.encode(ends).mean
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(vae.encode([""], features="mean"), expected, atol=1e-6)


def test_features_of_a_half_precision_model_are_float32(checkpoint):
    half = SeqVAE.from_pretrained(checkpoint, dtype=torch.bfloat16)
    assert SeqVAE.from_pretrained(checkpoint, torch_dtype=torch.bfloat16).model.dtype == torch.bfloat16
    texts = random_texts(4)
    assert half.model.dtype == torch.bfloat16
    for features in ("mean_variance", "pooled"):
        array = half.encode(texts, features=features)
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, SeqVAE.from_pretrained(checkpoint).encode(texts, features), atol=0.1)
    assert len(half.reconstruct(texts)) == len(half.sample(4)) == 4
    assert np.isfinite(half.nll(texts, num_samples=2)).all()


def test_weights_in_half_precision_are_computed_with_in_float32(checkpoint, tmp_path):
    vae = SeqVAE.from_pretrained(checkpoint)
    texts, rounded = random_texts(4), {name: weight.half().float() for name, weight in vae.model.state_dict().items()}
    vae.model.half()
    vae.save_pretrained(tmp_path)
    half = SeqVAE.from_pretrained(tmp_path)
    assert half.model.dtype == torch.float32
    assert SeqVAE.from_pretrained(tmp_path, dtype="auto").model.dtype == torch.float16
    vae.model.float().load_state_dict(rounded)
    np.testing.assert_array_equal(half.encode(texts), vae.encode(texts))


def test_encoding_leaves_dropout_off_and_no_gradient_behind():
    vae = build()
    assert not vae.model.training
    vae.encode(["the food"])
    vae.model(**tensors(vae, ["the food"]), labels=tensors(vae, ["the food"])["input_ids"]).loss.backward()


@pytest.mark.parametrize("changes", [{}, {"posterior": "normalised"}])
def test_results_are_those_of_evaluation_while_the_model_is_trained(changes):
    """A loop that trains the model sets it to training mode, in which dropout would be part of every figure."""
    vae, texts = build(**changes), [*random_texts(2), ""]

    def results():
        written = [vae.sample(4, seed=1), vae.reconstruct(texts)]
        return vae.encode(texts), vae.nll(texts, 3), vae.elbo(texts), piece_costs(vae, texts[0], 2), *written

    expected = results()
    vae.model.train()
    state = {name: weight.clone() for name, weight in vae.model.state_dict().items()}
    for found, wanted in zip(results(), expected, strict=True):
        np.testing.assert_array_equal(np.array(found, object), np.array(wanted, object))
    assert all(module.training for module in vae.model.modules())
    assert all(torch.equal(weight, state[name]) for name, weight in vae.model.state_dict().items())


# bad input


@pytest.mark.parametrize(
    "texts, message",
    [
        (None, "got NoneType"),
        (3, "got int"),
        (b"food", "got bytes"),
        ({"text": "food"}, "got dict"),
        (pd.DataFrame({"text": ["food"]}), "got DataFrame of 2 dimensions: choose one column"),
        (["the food", 5], r"texts\[1\] is of type int"),
        (["the food", "was", float("nan")], r"texts\[2\] is of type float, a missing one \(NaN\)"),
        ([["the food"]], r"texts\[0\] is of type list"),
        ([np.array(["the food", "was"])], r"texts\[0\] is of type ndarray"),
        (["the food", pd.NA], r"texts\[1\] is of type NAType"),
    ],
    ids=str,
)
def test_what_is_not_a_list_of_strings_is_refused_by_index_and_type(vae, texts, message):
    for method in (vae.encode, vae.reconstruct, vae.nll):
        with pytest.raises(TypeError, match=message):
            method(texts)


def test_unknown_features_and_impossible_sizes_are_refused(vae):
    with pytest.raises(ValueError, match="'max' is not one of mean, mean_variance, centre, pooled"):
        vae.encode(["the food"], features="max")
    with pytest.raises(ValueError, match=r"features=\['mean'\] is not one of mean"):
        vae.encode(["the food"], features=["mean"])
    for call in (lambda: vae.encode(["food"], batch_size=0), lambda: SeqVAE(vae.model, vae.tokenizer, batch_size=0)):
        with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
            call()
    with pytest.raises(ValueError, match="n must be at least 0, got -1"):
        vae.sample(-1)
    with pytest.raises(ValueError, match="steps must be at least 2, got 1"):
        vae.interpolate("food", "service", steps=1)
    for texts in (["food"], []):
        with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
            vae.nll(texts, num_samples=0)
    for shape in ((LATENT,), (2, LATENT + 1)):
        with pytest.raises(ValueError, match=rf"\(N, {LATENT}\), got"):
            vae.decode(np.zeros(shape))


@pytest.mark.parametrize("position", [0, 17])
def test_what_is_not_unicode_is_told_by_index(vae, monkeypatch, position):
    monkeypatch.setattr("modeling_seqvae.text_batches.WINDOW_BATCHES", 1)
    texts = random_texts(20)
    texts[position] += " caf\udce9"
    told = rf"texts\[{position}\] is not valid Unicode: '\\udce9' is half of a character"
    labels = [0, 1] * 10
    for call in (
        lambda: vae.encode(texts, batch_size=5),
        lambda: vae.nll(texts, 2),
        lambda: vae.reconstruct(texts),
        lambda: vae.neighbours("the food", texts),
        lambda: vae.direction(texts, labels, 1),
    ):
        with pytest.raises(ValueError, match=told):
            call()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
@pytest.mark.parametrize("container", [np.array, torch.tensor, list])
def test_latents_that_are_not_finite_are_told_by_index(vae, value, container):
    latents = [[0.0] * LATENT, [0.0, value, 0.0], [0.0] * LATENT]
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"latents\[1\] is not finite"):
        vae.decode(container(latents))
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"latents\[0\] is not finite"):
        vae.edit("the food", [value] * LATENT, [1.0])


def test_latents_that_the_models_precision_cannot_hold_are_refused():
    """As infinity they would give sentences without words."""
    latents = [[0.0] * LATENT, [0.0, 1e6, 0.0]]
    assert len(build().decode(latents)) == len(build().to(torch.bfloat16).decode(latents)) == 2
    with pytest.raises(ValueError, match=rf"latents\[1\] is not finite: it must be {LATENT} numbers that float16 can"):
        build().half().decode(latents)
    assert len(build(posterior="vmf").half().decode(latents)) == 2  # which are points of the sphere


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64])
def test_a_seed_that_no_generator_takes_is_refused(vae, seed):
    for call in (vae.sample, lambda seed: vae.nll("food", 2, seed=seed), lambda seed: vae.reconstruct("food", seed)):
        with pytest.raises(ValueError, match=rf"seed must be at least 0 and below 2\*\*63, got {seed}"):
            call(seed=seed)
    assert len(vae.sample(1, seed=2**63 - 1)) == len(vae.nll(["food"], 2, seed=2**63 - 1)) == 1


def test_tensors_are_not_asked_of_sentences(vae):
    with pytest.raises(ValueError, match="return_dict_in_generate=True asks for tensors, and here are sentences"):
        vae.sample(2, return_dict_in_generate=True)
    assert len(vae.sample(2, return_dict_in_generate=False)) == 2


def test_a_configuration_that_asks_for_more_than_sentences_changes_none(vae, monkeypatch):
    expected = vae.sample(2, seed=0, max_new_tokens=4)
    asked = GenerationConfig(return_dict_in_generate=True, max_new_tokens=4)
    assert vae.sample(2, seed=0, generation_config=asked) == expected
    monkeypatch.setattr(vae.model.generation_config, "return_dict_in_generate", True)
    assert vae.sample(2, seed=0, max_new_tokens=4) == expected


def test_many_unknown_words_warn_once_a_call_and_a_fifth_does_not(vae, monkeypatch):
    monkeypatch.setattr("modeling_seqvae.text_batches.WINDOW_BATCHES", 1)
    with pytest.warns(UserWarning, match="30% of the words") as record:
        vae.encode(["the food was qu ux", "we loved every bite zzz"] * 20, batch_size=2)
    assert len(record) == 1
    assert record[0].filename == __file__
    for use in (vae.nll, vae.elbo, vae.reconstruct, lambda text: vae.interpolate(text, text, 2)):
        with pytest.warns(UserWarning, match="100% of the words") as record:
            use("qu ux")
        assert [warning.filename for warning in record] == [__file__]
    with pytest.warns(UserWarning, match="100%"):
        assert np.isfinite(vae.encode(["qu ux"])).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae.encode(["the food was great ux"] * 20)


def test_a_text_without_known_words_is_encoded_as_unknowns(vae):
    config = vae.model.config
    unknowns = torch.tensor([[config.bos_token_id, config.unk_token_id, config.unk_token_id, config.eos_token_id]])
    with torch.no_grad():
        expected = vae.model.encode(unknowns).mean
    with pytest.warns(UserWarning, match="unknown"):
        np.testing.assert_allclose(vae.encode(["qu ux"], features="mean"), expected, atol=1e-6)


def test_long_texts_are_cut_at_a_finite_limit_and_counted_once(vae):
    long, short = " ".join(WORDS * 3), "the food was great"
    vae.tokenizer.model_max_length = 8
    with pytest.warns(UserWarning, match="2 texts have more than 8 tokens") as record:
        cut = vae.encode([long, short, long], batch_size=1)
    assert len(record) == 1
    np.testing.assert_allclose(cut[[0, 2]], vae.encode([" ".join(WORDS[:6])] * 2), atol=1e-6)
    np.testing.assert_allclose(cut[1], vae.encode(short), atol=1e-6)
    vae.tokenizer.model_max_length = int(1e30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not np.allclose(vae.encode(long), cut[0], atol=1e-3)


# writing


def test_a_seed_fixes_samples_and_is_that_of_the_model(vae):
    ids = vae.model.sample(5, generator=torch.Generator().manual_seed(3))
    assert vae.sample(5, seed=3) == vae.sample(5, seed=np.int64(3)) == decode_sentences(vae.tokenizer, ids)
    assert vae.sample(5, seed=3) != vae.sample(5, seed=4)


def test_samples_without_a_seed_are_new_whatever_the_global_seed(vae):
    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        drawn.append(vae.sample(5))
    assert drawn[0] != drawn[1]


def test_samples_leave_the_global_random_state_alone(vae):
    before = torch.get_rng_state()
    vae.sample(3, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_as_many_samples_as_asked_for_in_more_than_one_batch(vae):
    vae.batch_size = 4
    sentences = vae.sample(10, seed=0)
    assert len(sentences) == 10
    assert all(isinstance(sentence, str) and "</s>" not in sentence for sentence in sentences)


def test_reconstructions_are_the_models_in_the_order_of_the_texts(vae):
    texts = random_texts(11)
    expected = decode_sentences(vae.tokenizer, vae.model.reconstruct(**tensors(vae, texts)))
    vae.batch_size = 3
    assert vae.reconstruct(texts) == expected
    assert vae.reconstruct(texts[2]) == expected[2]
    assert vae.decode(vae.encode(texts, features="mean")) == expected


def test_a_flow_writes_from_where_it_takes_the_mean():
    vae, texts = build(posterior="planar_flow"), random_texts(5)
    centres = vae.encode(texts, features="centre")
    np.testing.assert_allclose(centres, vae.model.encode(**tensors(vae, texts)).centre.detach(), atol=1e-6)
    assert np.abs(centres - vae.encode(texts, features="mean")).max() > 0.1
    assert vae.reconstruct(texts) == decode_sentences(vae.tokenizer, vae.model.reconstruct(**tensors(vae, texts)))
    assert vae.reconstruct(texts) == vae.decode(centres)
    assert vae.interpolate(*texts[:2], steps=2) == vae.reconstruct(texts[:2])
    assert vae.analogy(texts[0], texts[0], texts[2]) == vae.reconstruct(texts[2])


def test_generation_arguments_reach_generate(vae):
    texts = random_texts(3)
    assert all(len(sentence.split()) <= 4 for sentence in vae.reconstruct(texts, max_new_tokens=4))
    assert len(vae.reconstruct(texts, num_beams=3, num_return_sequences=2)) == 6
    assert len(vae.reconstruct(texts[0], num_beams=3, num_return_sequences=2)) == 2
    drawn = [vae.reconstruct(texts, do_sample=True, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("normalisation", ["whitespace", "words"])
@pytest.mark.parametrize("stop", ["food", ["day", "bite"], "the food"], ids=str)
def test_a_stop_string_ends_the_sentence_with_the_word_that_completes_it(normalisation, stop):
    vae = build(normalisation=normalisation)
    strings = [stop] if isinstance(stop, str) else stop

    def cut(sentence: str) -> str:
        words = sentence.split(" ")
        starts = [" ".join(words[:count]) for count in range(1, len(words) + 1)]
        return next((start for start in starts if any(string in start for string in strings)), sentence)

    whole = vae.sample(200, seed=0)
    assert vae.sample(200, seed=0, stop_strings=stop) == [cut(sentence) for sentence in whole] != whole
    texts = random_texts(40)
    assert vae.reconstruct(texts, stop_strings=stop) == [cut(sentence) for sentence in vae.reconstruct(texts)]
    assert len(vae.sample(2, seed=0, stop_strings=stop, num_beams=2)) == 2


def test_stop_strings_of_a_configuration_stop_and_empty_ones_are_refused(vae):
    vae.model.generation_config.stop_strings = ["food"]
    assert all(sentence.find("food") in (-1, len(sentence) - 4) for sentence in vae.sample(50, seed=0))
    for wrong in ("", ["food", ""], [3]):
        with pytest.raises(ValueError, match="stop_strings must be strings of a character or more"):
            vae.sample(1, stop_strings=wrong)


def test_prompts_belong_to_their_sentences_in_every_batch(vae):
    prompts = vae.tokenizer(WORDS, return_tensors="pt")["input_ids"][:, :2]  # <s> and a word
    vae.batch_size = 4
    written = vae.sample(len(WORDS), seed=0, decoder_input_ids=prompts)
    assert [sentence.split()[0] for sentence in written] == WORDS
    assert all(sentence.startswith("the") for sentence in vae.sample(9, decoder_input_ids=prompts[:1].tolist()))
    with pytest.raises(ValueError, match=r"one for each of the 9, got the shape \(4, 2\)"):
        vae.sample(9, decoder_input_ids=prompts[:4])


def test_every_method_gives_in_threads_what_it_gives_alone(vae):
    texts, state = random_texts(40), torch.get_rng_state()
    jobs = [
        job
        for i in range(12)
        for job in (
            lambda i=i: vae.sample(3, seed=i),
            lambda i=i: vae.encode(texts[i : i + 9]).tolist(),
            lambda i=i: vae.nll(texts[i : i + 3], 5, seed=i).tolist(),
            lambda i=i: vae.reconstruct(texts[i : i + 3], seed=i, do_sample=True),
            lambda i=i: vae.interpolate(*texts[i : i + 2], seed=i, do_sample=True, stop_strings="day"),
            lambda i=i: vae.edit(texts[i], np.ones(LATENT), seed=i, do_sample=True, num_beams=2),
            lambda i=i: vae.neighbours(texts[i], texts),
        )
    ]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda job: job(), jobs))
    assert together == [job() for job in jobs]
    assert torch.equal(torch.get_rng_state(), state)


def test_the_parts_of_a_model_keep_their_modes(vae):
    vae.model.train()
    vae.model.get_encoder().eval()
    before = [part.training for part in vae.model.modules()]
    texts = random_texts(3)
    vae.encode(texts), vae.nll(texts, 2), vae.sample(2)
    assert [part.training for part in vae.model.modules()] == before


def test_threads_share_the_evaluation_mode_of_a_model_in_training(vae):
    texts = random_texts(20)
    expected = vae.nll(texts, 20)
    vae.model.model.decoder.embedding_dropout.p = 0.5
    vae.model.train()
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(lambda count: vae.nll(texts[:count], 20), [20, 1] * 6))
    for found in together:
        np.testing.assert_allclose(found, expected[: len(found)], rtol=1e-5)
    assert all(part.training for part in vae.model.modules())


@pytest.mark.parametrize(
    "does",
    [
        lambda vae, size: vae.sample(3, 0, batch_size=size, do_sample=False),
        lambda vae, size: vae.decode(np.ones((3, LATENT)), batch_size=size),
        lambda vae, size: vae.reconstruct(random_texts(3), batch_size=size),
        lambda vae, size: vae.interpolate(*random_texts(2), 3, batch_size=size),
        lambda vae, size: vae.edit(random_texts(3), np.ones(LATENT), batch_size=size),
        lambda vae, size: vae.neighbours("the food", random_texts(3), batch_size=size),
        lambda vae, size: vae.direction(random_texts(4), [0, 0, 1, 1], 1, batch_size=size).round(4).tolist(),
    ],
)
def test_every_method_has_a_batch_size(vae, does):
    whole, single = does(vae, None), does(vae, 1)
    assert str(single)[:20] == str(whole)[:20] and len(single) == len(whole)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        does(vae, 0)


def test_a_model_without_a_vocabulary_layer_is_refused(vae):
    with pytest.raises(TypeError, match=r"SeqVAEModel has no vocabulary layer.*AutoModelForSeq2SeqLM"):
        SeqVAE(vae.model.model, vae.tokenizer)


def test_only_the_main_process_writes(vae, tmp_path):
    vae.fit_aggregate(random_texts(5), components=2)
    vae.save_pretrained(tmp_path / "none", is_main_process=False)
    assert not list(tmp_path.glob("none/*"))
    vae.save_pretrained(tmp_path / "whole", max_shard_size="1KB")
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert "aggregate.safetensors" in files and "model.safetensors.index.json" in files
    vae.model.save_pretrained(tmp_path / "whole", is_main_process=False)
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == files
    assert SeqVAE.from_pretrained(tmp_path / "whole").aggregate is not None
    with pytest.raises(ValueError, match="call push_to_hub of the SeqVAE"):
        vae.save_pretrained(tmp_path / "more", push_to_hub=True)


def test_a_checkpoint_is_not_saved_beside_that_of_a_run(vae, tmp_path):
    """From then on every command would read it in place of the run's best/."""
    vae.save_pretrained(tmp_path / "best")
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(ValueError, match=r"is a run, whose model is .*best: save to another folder"):
        vae.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "recipe.yaml"]
    vae.save_pretrained(tmp_path / "best")


def test_an_interpolation_goes_in_a_straight_line_from_one_reconstruction_to_the_other(vae):
    a, b = "the food was great", "service felt slow and cold today"
    sentences = vae.interpolate(a, b, steps=5)
    assert [sentences[0], sentences[-1]] == vae.reconstruct([a, b])
    mean_a, mean_b = vae.encode([a, b], features="mean")
    assert sentences == vae.decode([mean_a + t * (mean_b - mean_a) for t in (0, 0.25, 0.5, 0.75, 1)])
    assert len(vae.interpolate(a, b)) == 7


def test_an_analogy_from_a_sentence_to_itself_is_a_reconstruction(vae):
    a, b, c = random_texts(3, seed=5)
    assert vae.analogy(a, a, c) == vae.reconstruct(c)
    mean_a, mean_b, mean_c = vae.encode([a, b, c], features="mean")
    assert vae.analogy(a, b, c) == vae.decode([mean_b - mean_a + mean_c])[0]


# likelihood


def test_nll_is_the_models_with_the_noise_of_each_text(vae):
    texts = random_texts(6)
    generators = [sentence_generator(4, *vae.tokenizer(text)["input_ids"]) for text in texts]
    expected = vae.model.iw_nll(**tensors(vae, texts), num_samples=9, generator=generators)
    np.testing.assert_allclose(vae.nll(texts, num_samples=9, seed=4), expected, rtol=1e-5)


def test_nll_does_not_depend_on_batching_and_a_seed_fixes_it(vae):
    texts = random_texts(13)
    expected = vae.nll(texts, num_samples=5, batch_size=1)
    np.testing.assert_allclose(vae.nll(texts, num_samples=5, batch_size=4), expected, rtol=1e-5)
    np.testing.assert_allclose(vae.nll(texts[0], num_samples=5), expected[0], rtol=1e-5)
    assert not np.allclose(vae.nll(texts, num_samples=5, seed=1), expected, rtol=1e-5)
    assert not np.allclose(vae.nll(texts, 5, seed=None), vae.nll(texts, 5, seed=None), rtol=1e-5)


OLD = pytest.mark.skipif(Version(accelerate.__version__) < Version("1.15"), reason="accelerate refuses a whole model")
WHOLE = pytest.param({"": "disk"}, marks=OLD)
PARTLY = {"model.encoder": "disk", "model.decoder": "cpu", "lm_head": "cpu"}


@pytest.mark.parametrize("placed", [WHOLE, {"model": "disk", "lm_head": "cpu"}, PARTLY])
def test_weights_on_the_disk_give_the_same_values(vae, checkpoint, tmp_path, placed):
    offloaded = SeqVAE.from_pretrained(checkpoint, device_map=placed, offload_folder=tmp_path / "weights")
    texts = random_texts(3)
    np.testing.assert_allclose(offloaded.encode(texts), vae.encode(texts), atol=1e-6)
    np.testing.assert_allclose(offloaded.nll(texts, 5), vae.nll(texts, 5), atol=1e-4)
    assert offloaded.reconstruct(texts) == vae.reconstruct(texts) and offloaded.sample(2, seed=0) == vae.sample(
        2, seed=0
    )


def test_what_is_no_whole_number_and_no_prompt_is_named(vae):
    for given in ({"n": 2.0}, {"seed": 1.0}, {"batch_size": "3"}):
        (name,) = given
        with pytest.raises(TypeError, match=f"{name} must be a whole number, got {given[name]!r}"):
            vae.sample(**given)
    with pytest.raises(ValueError, match=r"prompt\[0\] is not valid Unicode"):
        vae.sample(prompt="\ud800")


@pytest.mark.parametrize("name", ["num_samples", "generator", "input_ids", "inputs", "encoder_outputs"])
def test_an_argument_of_the_model_is_not_taken_for_one_of_strings(vae, name):
    for write in (vae.sample, lambda **given: vae.decode(np.zeros((1, LATENT)), **given)):
        with pytest.raises(TypeError, match=rf"{name} is an argument of SeqVAE\.model, which takes tensors; here give"):
            write(**{name: 5})


def test_a_texts_nll_is_the_same_in_every_list(vae):
    texts = random_texts(13)
    expected = vae.nll(texts, num_samples=2)
    np.testing.assert_allclose(vae.nll(texts[::-1], num_samples=2)[::-1], expected, rtol=1e-5)
    np.testing.assert_allclose(vae.nll(texts[4:9], num_samples=2), expected[4:9], rtol=1e-5)
    np.testing.assert_allclose(vae.nll([texts[0], *texts, texts[0]], num_samples=2)[[0, 1, 14]], expected[0], rtol=1e-5)


def test_the_noise_of_two_texts_differs():
    drawn = {float(torch.randn(1, generator=sentence_generator(0, *ids))) for ids in ([1, 2], [1, 4, 2], [1, 4, 4, 2])}
    assert len(drawn) == 3


# language models


def test_a_language_model_samples_and_scores_exactly(language_model):
    texts = random_texts(5)
    assert language_model.sample(3, seed=1) == language_model.sample(3, seed=1)
    batch = tensors(language_model, texts)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    with torch.no_grad():
        expected = language_model.model(**batch, labels=labels).reconstruction_loss
    np.testing.assert_allclose(language_model.nll(texts), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda vae: vae.encode([]),
        lambda vae: vae.encode(["the food"], features="pooled"),
        lambda vae: vae.reconstruct(["the food"]),
        lambda vae: vae.interpolate("the food", "the service"),
        lambda vae: vae.analogy("the food", "the service", "the bite"),
        lambda vae: vae.decode(np.zeros((1, 0))),
    ],
)
def test_a_language_model_has_no_latent_to_use(language_model, call):
    with pytest.raises(ValueError, match="latent_size=0"):
        call(language_model)


# saving and loading


def test_a_reloaded_checkpoint_gives_the_same_results(vae, checkpoint):
    texts = random_texts(5)
    again = SeqVAE.from_pretrained(str(checkpoint), batch_size=2, device="cpu", local_files_only=True)
    np.testing.assert_allclose(again.encode(texts), vae.encode(texts), atol=1e-6)
    assert again.sample(4, seed=0, max_new_tokens=5) == SeqVAE(vae.model, vae.tokenizer, 2).sample(
        4, seed=0, max_new_tokens=5
    )
    assert again.reconstruct(texts) == vae.reconstruct(texts)  # the length limit travels too
    assert again.batch_size == 2


def test_the_normalisation_travels_with_the_checkpoint(tmp_path):
    build(normalisation="words").save_pretrained(tmp_path)
    vae = SeqVAE.from_pretrained(tmp_path)
    np.testing.assert_array_equal(vae.encode("The FOOD   was great"), vae.encode("the food was great"))


def test_arguments_for_the_hub_reach_model_and_tokenizer(checkpoint, tmp_path):
    nested = SeqVAE.from_pretrained(tmp_path, subfolder="checkpoint")
    assert nested.encode(["the food"]).shape == (1, 2 * LATENT)


def test_a_folder_without_a_checkpoint_is_refused_with_a_hint(checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json \(there is one in .*checkpoint\)"):
        SeqVAE.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no SeqVAE checkpoint at .*nowhere"):
        SeqVAE.from_pretrained(tmp_path / "nowhere")


def test_a_run_s_directory_is_its_best_checkpoint(checkpoint, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("method: seqvae\n")
    with pytest.raises(FileNotFoundError, match="run is a run without a checkpoint yet"):
        SeqVAE.from_pretrained(run)
    shutil.copytree(checkpoint, run / "best")
    np.testing.assert_array_equal(
        SeqVAE.from_pretrained(run).encode(["the food"]), SeqVAE.from_pretrained(checkpoint).encode(["the food"])
    )
    assert SeqVAE.from_pretrained(run, subfolder="best").encode(["the food"]).shape == (1, 2 * LATENT)


def test_a_checkpoint_is_itself_whatever_stands_beside_it(checkpoint, tmp_path):
    shared = shutil.copytree(checkpoint, tmp_path / "shared")
    (shared / "recipe.yaml").write_text("method: seqvae\n")  # as `push` shares it
    (shared / "best").mkdir()
    assert SeqVAE.from_pretrained(shared).encode(["the food"]).shape == (1, 2 * LATENT)


def test_a_model_of_another_type_is_refused(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a model of type 'bert'; SeqVAE reads 'seqvae'"):
        SeqVAE.from_pretrained(tmp_path)


def test_a_checkpoint_without_a_tokenizer_is_refused(checkpoint):
    for file in checkpoint.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match="holds a model but no tokenizer"):
        SeqVAE.from_pretrained(checkpoint)


def test_weights_load_from_safetensors_only(vae, checkpoint):
    (checkpoint / "model.safetensors").unlink()
    torch.save(vae.model.state_dict(), checkpoint / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"model\.safetensors"):
        SeqVAE.from_pretrained(checkpoint)


def test_another_models_tokenizer_is_refused(vae, checkpoint):
    larger = train_tokenizer([" ".join([*WORDS, "more", "words"])])
    with pytest.raises(ValueError, match=r"tokenizer has \d+ tokens but the model's vocab_size is \d+"):
        SeqVAE(vae.model, larger)
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="must put <s> and </s> around a sentence"):
        SeqVAE.from_pretrained(checkpoint)


def edited(checkpoint, **changes) -> str:
    """The checkpoint, with other fields in its config.json."""
    path = checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return str(checkpoint)


def test_weights_that_are_missing_are_named_instead_of_drawn(vae, checkpoint):
    vae.model.model.save_pretrained(checkpoint)  # the model without its vocabulary layer
    with pytest.raises(ValueError, match=r"checkpoint: the weights lack lm_head\.weight: save it again"):
        SeqVAE.from_pretrained(checkpoint)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"pooling_mode": "attention"}, r"the weights lack model\.encoder"),
        ({"posterior": "implicit", "sampler_layers": 4}, r"the weights lack .*, .*, .* and \d+ others"),
        ({"num_hidden_layers": 2}, r" is \(.*\) in the weights, but by config\.json \("),
        ({"latent_size": LATENT + 1}, r" is \(.*\) in the weights, but by config\.json \("),
    ],
    ids=["missing", "many missing", "layers", "another shape"],
)
def test_a_config_that_was_changed_does_not_fill_in_random_weights(checkpoint, changes, told):
    with pytest.raises(ValueError, match=told):
        SeqVAE.from_pretrained(edited(checkpoint, **changes))


def test_tied_weights_are_not_missing(tmp_path):
    tokenizer = train_tokenizer([SENTENCE])
    config = SeqVAEConfig(vocab_size=len(tokenizer), embedding_size=8, hidden_size=8, tie_word_embeddings=True)
    SeqVAE(SeqVAEForTextModeling(config), tokenizer).save_pretrained(tmp_path)
    model = SeqVAE.from_pretrained(tmp_path).model
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight


@pytest.mark.parametrize("kept", [0, 5, 200, -10])
def test_weights_that_were_cut_short_are_told(checkpoint, kept):
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"checkpoint: its \.safetensors file is damaged or was cut short"):
        SeqVAE.from_pretrained(checkpoint)


def test_a_field_of_the_wrong_type_is_told(checkpoint):
    with pytest.raises(ValueError, match=r"checkpoint: config\.json is not one of a SeqVAE: .*latent_size.*'16'"):
        SeqVAE.from_pretrained(edited(checkpoint, latent_size="16"))


@pytest.mark.parametrize("content", ["[1]", "3", "null", '"seqvae"'])
def test_a_config_that_is_no_object_is_told(checkpoint, content):
    (checkpoint / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json holds something else than an object"):
        SeqVAE.from_pretrained(checkpoint)


def test_a_tokenizer_with_the_same_words_in_another_order_is_refused(vae, checkpoint):
    other = train_tokenizer([SENTENCE, " ".join(reversed(WORDS[:5])), "today today"])
    assert sorted(other.get_vocab()) == sorted(vae.tokenizer.get_vocab()) and len(other) == len(vae.tokenizer)
    SeqVAE(vae.model, other)  # a configuration that remembers no words cannot tell
    vae.model.config.vocabulary_hash = vocabulary_hash(vae.tokenizer)
    with pytest.raises(ValueError, match="words, or their ids, are not those that the model was trained with"):
        SeqVAE(vae.model, other)
    vae.save_pretrained(checkpoint)
    assert SeqVAE.from_pretrained(checkpoint).model.config.vocabulary_hash == vocabulary_hash(vae.tokenizer)
    other.save_pretrained(checkpoint)
    with pytest.raises(ValueError, match="not those that the model was trained with"):
        SeqVAE.from_pretrained(checkpoint)
    assert SeqVAE.from_pretrained(edited(checkpoint, vocabulary_hash=None)).encode("the food").shape == (2 * LATENT,)


def test_words_may_be_added(vae, tmp_path):
    vae.model.config.vocabulary_hash = vocabulary_hash(vae.tokenizer)
    vae.model.resize_token_embeddings(len(vae.tokenizer))
    assert vae.model.config.vocabulary_hash is not None
    vae.tokenizer.add_tokens(["soup", "spoon"])
    vae.model.resize_token_embeddings(len(vae.tokenizer))
    assert vae.model.config.vocabulary_hash is None
    SeqVAE(vae.model, vae.tokenizer).save_pretrained(tmp_path)
    again = SeqVAE.from_pretrained(tmp_path)
    np.testing.assert_allclose(again.encode("the soup"), vae.encode("the soup"), atol=1e-6)


def test_it_says_what_it_is(vae):
    size = len(vae.tokenizer)
    assert repr(vae) == f"SeqVAE(latent_size={LATENT}, vocab_size={size}, pooling_mode='max', device='cpu')"


# progress


@pytest.mark.parametrize(
    ("does", "bars"),
    [
        (lambda vae, **shown: vae.encode(random_texts(3), **shown), {"encoding"}),
        (lambda vae, **shown: vae.nll(random_texts(3), 2, **shown), {"scoring"}),
        (lambda vae, **shown: vae.sample(3, **shown), {"writing"}),
        (lambda vae, **shown: vae.decode(np.zeros((3, LATENT)), **shown), {"writing"}),
        (lambda vae, **shown: vae.reconstruct(random_texts(3), **shown), {"encoding", "writing"}),
        (lambda vae, **shown: vae.edit(random_texts(3), np.ones(LATENT), **shown), {"encoding", "writing"}),
    ],
)
def test_a_bar_shows_at_once_when_asked_and_never_when_refused(vae, capfd, does, bars):
    doing = {"encoding", "scoring", "writing"}
    does(vae)
    does(vae, show_progress=False)
    assert not any(word in capfd.readouterr().err for word in doing)
    does(vae, show_progress=True)
    shown = capfd.readouterr().err
    assert {word for word in doing if word in shown} == bars


# the latent space


def test_an_arc_and_a_line_have_the_same_ends(vae):
    texts = random_texts(2)
    start, end = vae.encode(texts, features="centre")
    arc = vae.interpolate(*texts, steps=5, path="spherical")
    assert arc == vae.decode(spherical(start, end, 5))
    assert [arc[0], arc[-1]] == vae.reconstruct(texts)
    with pytest.raises(ValueError, match="path='round' is not one of linear, spherical"):
        vae.interpolate(*texts, path="round")


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_are_texts_with_their_places_and_distances(vae, metric):
    texts = random_texts(30)
    found = vae.neighbours(texts[7], iter(texts), k=4, metric=metric)
    assert len(found) == 4 and found[0].text == texts[7]
    assert found[0].distance == pytest.approx(0, abs=1e-4)
    assert all(text == texts[position] for position, text, _ in found)
    assert [near.distance for near in found] == sorted(near.distance for near in found)
    several = vae.neighbours([texts[7], texts[2]], texts, k=4, metric=metric)
    assert [near.position for near in several[0]] == [near.position for near in found] and several[1][0].text == texts[
        2
    ]
    assert vae.neighbours([], texts) == []
    assert len(vae.neighbours("the food", texts[:2], k=9)) == 2


@pytest.mark.parametrize("method", ["means", "logistic"])
def test_an_edit_moves_along_the_direction_of_the_labels(vae, method):
    texts = random_texts(40)
    labels = ["with" if "food" in text else "without" for text in texts]
    direction = vae.direction(texts, labels, "with", "without", method)
    centres = vae.encode(texts, features="centre")
    towards = np.array([label == "with" for label in labels])
    assert (centres[towards].mean(0) - centres[~towards].mean(0)) @ direction > 0
    edited = vae.edit(texts[:3], direction, [-1, 0, 2])
    assert [sentences[1] for sentences in edited] == vae.reconstruct(texts[:3])
    assert [sentences[2] for sentences in edited] == vae.decode(centres[:3] + 2 * direction)
    assert vae.edit(texts[0], direction, [-1, 0, 2]) == edited[0]
    assert vae.edit([], direction) == []


def test_a_direction_between_two_labels_does_not_see_the_others(vae):
    texts = random_texts(30)
    labels = [index % 3 for index in range(30)]
    chosen = [(text, label) for text, label in zip(texts, labels, strict=True) if label != 1]
    expected = vae.direction(*zip(*chosen, strict=True), towards=2)
    np.testing.assert_allclose(vae.direction(texts, labels, towards=2, away=0), expected, atol=1e-6)


def test_what_cannot_be_looked_for_or_moved_along_is_refused(vae, language_model):
    with pytest.raises(ValueError, match="no texts to look for"):
        vae.neighbours("the food", [])
    with pytest.raises(ValueError, match="k must be at least 1"):
        vae.neighbours("the food", ["food"], k=0)
    with pytest.raises(ValueError, match="metric='dot' is not one of cosine, euclidean"):
        vae.neighbours("the food", ["food"], metric="dot")
    with pytest.raises(ValueError, match="method='svm' is not one of means, logistic"):
        vae.direction(["food"], ["a"], "a", method="svm")
    with pytest.raises(ValueError, match="here is one only: 'a'"):
        vae.direction(["food", "service"], ["a", "a"], "a")
    with pytest.raises(ValueError, match=rf"direction must have the shape \({LATENT},\)"):
        vae.edit("food", np.zeros(LATENT + 1))
    for strengths in ([], [float("nan")], 1):
        with pytest.raises(ValueError, match="strengths must be a list of numbers"):
            vae.edit("food", np.zeros(LATENT), strengths)
    for call in (
        lambda: language_model.neighbours("food", ["food"]),
        lambda: language_model.direction(["food"], ["a"], "a"),
        lambda: language_model.edit("food", []),
    ):
        with pytest.raises(ValueError, match="latent_size=0"):
            call()


# a posterior that has collapsed

USES = {
    "encode": lambda vae: vae.encode(SENTENCE),
    "sample": lambda vae: vae.sample(1, seed=0),
    "decode": lambda vae: vae.decode(np.zeros((1, LATENT))),
    "reconstruct": lambda vae: vae.reconstruct(SENTENCE),
    "interpolate": lambda vae: vae.interpolate("food", "service", 2),
    "neighbours": lambda vae: vae.neighbours("food", ["service"]),
    "direction": lambda vae: vae.direction(["food", "service", "slow", "cold"], [0, 0, 1, 1], 1),
}


@pytest.mark.parametrize("use", USES)
def test_a_checkpoint_that_knows_of_its_collapse_warns_once_where_its_latent_is_used(checkpoint, use):
    config = json.loads((checkpoint / "config.json").read_text())
    assert config.get("validation_kl") is None
    alike = "the KL is 4.00 nats a text, but all texts have much the same posterior"
    known = [
        (None, None, []),
        (0.1, 0.1, []),
        (4.0, None, []),
        (0.02, None, ["collapsed: the latent holds 0.02 nats a text"]),
        (4.0, 0.02, [alike]),  # a KL that has a floor, or is constant
    ]
    for kl, mi, expected in known:
        (checkpoint / "config.json").write_text(json.dumps({**config, "validation_kl": kl, "validation_mi": mi}))
        vae = SeqVAE.from_pretrained(checkpoint)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            vae.nll("food", num_samples=2)
            assert not told
            USES[use](vae)
            USES[use](vae)
            vae.encode(SENTENCE)
        assert [warning.filename for warning in told] == [__file__] * len(expected)
        assert all(said in str(warning.message) for said, warning in zip(expected, told, strict=True))


def test_what_is_known_of_the_weights_is_saved_and_forgotten_when_they_are_trained_on(checkpoint, tmp_path):
    vae = SeqVAE.from_pretrained(checkpoint)
    vae.model.config.validation_kl, vae.model.config.validation_mi = 0.02, 0.01
    vae.save_pretrained(tmp_path / "copy")
    copied = SeqVAE.from_pretrained(tmp_path / "copy")
    copied.model.eval()
    assert (copied.model.config.validation_kl, copied.model.config.validation_mi) == (0.02, 0.01)
    copied.model.train()
    assert copied.model.config.validation_kl is copied.model.config.validation_mi is None
