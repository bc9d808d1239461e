"""Pipelines of transformers on our checkpoints: our own tasks, and what its stock feature extraction gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSeq2SeqLM, GenerationConfig, pipeline, set_seed
from transformers.pipelines import PIPELINE_REGISTRY

from modeling_seqvae import SeqVAE
from modeling_seqvae.pipelines import SeqVAEFeaturesPipeline, SeqVAEGenerationPipeline, register_pipelines
from modeling_seqvae.sharing import PIPELINES

CHECKPOINT = str(Path(__file__).parent / "fixtures" / "checkpoint-v1")
TEXTS = ["the food was great .", "wow", "", "our room was cold and the staff was slow ."]


@pytest.fixture(scope="module")
def vae() -> SeqVAE:
    return SeqVAE.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def features() -> Any:
    return pipeline("seqvae-features", model=CHECKPOINT, device="cpu")


@pytest.fixture(scope="module")
def generation() -> Any:
    return pipeline("seqvae-generation", model=CHECKPOINT, device="cpu")


def test_importing_the_package_registers_the_tasks_that_a_checkpoint_carries() -> None:
    register_pipelines()  # again, which changes nothing
    for task, pipeline_class in (
        ("seqvae-features", SeqVAEFeaturesPipeline),
        ("seqvae-generation", SeqVAEGenerationPipeline),
    ):
        registered = PIPELINE_REGISTRY.supported_tasks[task]
        assert registered == {"impl": pipeline_class, "pt": (AutoModelForSeq2SeqLM,), "type": "text"}
        assert PIPELINES[task]["impl"] == f"pipelines.{pipeline_class.__name__}"
        assert PIPELINES[task]["pt"] == ["AutoModelForSeq2SeqLM"]
    assert set(PIPELINES) == {task for task in PIPELINE_REGISTRY.supported_tasks if task.startswith("seqvae-")}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_features_are_those_of_encode(features: Any, vae: SeqVAE, batch_size: int) -> None:
    for name in ("mean_variance", "mean", "pooled"):
        found = features(TEXTS, features=name, batch_size=batch_size)
        np.testing.assert_allclose(found, vae.encode(TEXTS, name), atol=1e-5)
    np.testing.assert_allclose(features(TEXTS), vae.encode(TEXTS), atol=1e-5)


def test_features_that_are_not_finite_are_refused(vae: SeqVAE) -> None:
    damaged = SeqVAE.from_pretrained(CHECKPOINT)
    with torch.no_grad():
        damaged.model.get_encoder().embed_tokens.weight[vae.tokenizer.convert_tokens_to_ids("staff")] = torch.nan
    broken = pipeline("seqvae-features", model=damaged.model, tokenizer=damaged.tokenizer, device="cpu")
    np.testing.assert_allclose(broken(TEXTS[:3]), vae.encode(TEXTS[:3]), atol=1e-5)
    with pytest.raises(FloatingPointError, match="features of a text are not finite numbers"):
        broken(TEXTS, batch_size=2)


def test_one_text_gives_one_vector_and_a_stream_an_iterator(features: Any, vae: SeqVAE) -> None:
    assert isinstance(features(TEXTS[0])[0], float)
    np.testing.assert_allclose(features(TEXTS[0]), vae.encode(TEXTS[0]), atol=1e-5)
    streamed = features((text for text in TEXTS), batch_size=2)
    assert not isinstance(streamed, list)
    np.testing.assert_allclose(list(streamed), vae.encode(TEXTS), atol=1e-5)
    np.testing.assert_allclose(list(features(map(str, TEXTS))), vae.encode(TEXTS), atol=1e-5)
    for listed in (np.array(TEXTS), pd.Series(TEXTS), Dataset.from_dict({"text": TEXTS})["text"]):
        np.testing.assert_allclose(features(listed), vae.encode(TEXTS), atol=1e-5)
    assert features([]) == features(np.array([], str)) == [] and len(features(tuple(TEXTS))) == len(TEXTS)
    tensors = features(TEXTS, return_tensors=True, batch_size=2)
    assert all(isinstance(tensor, torch.Tensor) and tensor.shape == (6,) for tensor in tensors)


def test_features_may_be_chosen_once(vae: SeqVAE) -> None:
    pooled = pipeline("seqvae-features", model=vae.model, tokenizer=vae.tokenizer, features="pooled", device="cpu")
    np.testing.assert_allclose(pooled(TEXTS), vae.encode(TEXTS, "pooled"), atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_texts_are_written_again_from_their_centres(generation: Any, vae: SeqVAE, batch_size: int) -> None:
    found = generation(TEXTS, batch_size=batch_size, max_length=10)
    assert found == [[{"generated_text": sentence}] for sentence in vae.reconstruct(TEXTS, max_length=10)]
    assert generation(TEXTS[0], max_length=10) == found[0]


def test_nothing_is_written_from_the_prior(generation: Any) -> None:
    def written(seed: int, **options: Any) -> list[str]:
        set_seed(seed)
        return [sentence["generated_text"] for (sentence,) in generation([None] * 6, max_length=10, **options)]

    assert len(set(written(0))) > 1
    assert written(0, do_sample=True) == written(0, do_sample=True) != written(1, do_sample=True)
    mixed = generation([TEXTS[0], None, TEXTS[1]], batch_size=3, max_length=10)
    assert mixed[::2] == generation([TEXTS[0], TEXTS[1]], batch_size=2, max_length=10)


def test_several_sentences_a_text_stay_together(generation: Any, vae: SeqVAE) -> None:
    options = {"num_beams": 3, "num_return_sequences": 2, "max_length": 8}
    found = generation(TEXTS[:2], batch_size=2, **options)
    sentences = [sentence["generated_text"] for several in found for sentence in several]
    assert sentences == vae.reconstruct(TEXTS[:2], **options)


def test_a_generation_configuration_decides_whether_words_are_drawn(generation: Any, vae: SeqVAE) -> None:
    drawn = GenerationConfig(do_sample=True, max_length=8)
    assert len({generation(TEXTS[0], generation_config=drawn)[0]["generated_text"] for _ in range(9)}) > 1
    assert len({vae.reconstruct(TEXTS[0], generation_config=drawn) for _ in range(9)}) > 1
    assert vae.reconstruct(TEXTS[0], generation_config=GenerationConfig()) == vae.reconstruct(TEXTS[0])


def test_sentences_are_written_where_generate_is_asked_for_more(generation: Any, monkeypatch: Any) -> None:
    expected = generation(TEXTS, batch_size=2, max_new_tokens=4)
    asked = {"return_dict_in_generate": True, "output_scores": True, "max_new_tokens": 4}
    assert generation(TEXTS, batch_size=2, **asked) == expected
    assert generation(TEXTS, batch_size=2, generation_config=GenerationConfig(**asked)) == expected
    monkeypatch.setattr(generation.model.generation_config, "return_dict_in_generate", True)
    assert generation(TEXTS, batch_size=2, max_new_tokens=4) == expected


def test_bad_input_is_told(features: Any, generation: Any) -> None:
    with pytest.raises(TypeError, match="every text must be a string, got int"):
        features(["fine", 3])
    with pytest.raises(TypeError, match="every text must be a string, got NoneType"):
        features(None)
    with pytest.raises(ValueError, match="'sum' is not one of mean, mean_variance"):
        features("fine", features="sum")
    with pytest.raises(TypeError, match="unexpected keyword"):
        features("fine", feature="mean")


def test_a_language_model_writes_but_has_no_features(vae: SeqVAE, make_model: Any) -> None:
    model = make_model(latent_size=0, vocab_size=len(vae.tokenizer))
    options = {"model": model, "tokenizer": vae.tokenizer, "device": "cpu"}
    assert len(pipeline("seqvae-generation", **options)([None] * 2, max_length=5)) == 2
    for task in ("seqvae-features", "seqvae-generation"):
        with pytest.raises(ValueError, match="latent_size=0"):
            pipeline(task, **options)("the food", **({} if task == "seqvae-features" else {"max_length": 5}))


def test_a_saved_pipeline_carries_its_code_and_loads_the_packages_own(features: Any, vae: SeqVAE, tmp_path) -> None:
    """Trusted or not: where the package is imported, the code in the folder is not looked at."""
    features.save_pretrained(tmp_path)
    assert {"pipelines.py", "modeling_seqvae.py", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in tmp_path.iterdir()
    }
    for options in ({}, {"trust_remote_code": True}):
        again = pipeline("seqvae-features", model=str(tmp_path), device="cpu", **options)
        assert type(again) is SeqVAEFeaturesPipeline
        np.testing.assert_allclose(again(TEXTS), vae.encode(TEXTS), atol=1e-5)


def test_a_pipeline_is_not_pushed_without_its_code(features: Any, tmp_path) -> None:
    with pytest.raises(ValueError, match="call push_to_hub of the SeqVAE \\(of a pipeline, its `vae`\\)"):
        features.save_pretrained(tmp_path / "model", push_to_hub=True)
    assert not (tmp_path / "model").exists()


@torch.no_grad()
def test_stock_feature_extraction_gives_the_decoders_states_padding_included(vae: SeqVAE) -> None:
    """As docs/pipelines.md says: (1, T, H), one vector a token of the batch's longest text, and no latent."""
    stock = pipeline("feature-extraction", model=CHECKPOINT, device="cpu")
    alone, together = stock(TEXTS[1]), stock(TEXTS, batch_size=len(TEXTS))
    inputs = vae.tokenizer(TEXTS, return_tensors="pt", padding=True)
    states = vae.model.model(**inputs).last_hidden_state
    np.testing.assert_allclose(np.concatenate(together), states, atol=1e-5)
    assert np.array(alone).shape == (1, 3, vae.model.config.hidden_size)
    np.testing.assert_allclose(alone[0], states[1, :3], atol=1e-5)
