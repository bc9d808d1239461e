from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from modeling_seqvae.training.card import card
from modeling_seqvae.training.recipe import Recipe

RECORD: dict[str, Any] = {
    "epoch": 7,
    "encoder_updates": 1234,
    "decoder_updates": 1234,
    "seconds": 61.4,
    "kl_weight": 0.7,
    "lr": 0.5,
    "bound": 26.781,
    "rec": 25.9,
    "kl": 0.881,
    "mi": -0.000004,
    "au": 3,
    "cosine": 0.25,
}


def saved(folder: Path, recipe: Recipe, record: dict[str, Any]) -> ModelCard:
    """The card as the hub reads it."""
    card(recipe, record).save(folder / "README.md")
    return ModelCard.load(folder / "README.md")


def test_metadata_says_what_was_measured(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    data = saved(tmp_path, make_recipe(), RECORD).data
    assert data.library_name == "transformers" and "seqvae" in data.tags
    assert data.model_name == "SeqVAE + MaxPool on tiny"
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {
        key: RECORD[key] for key in ("bound", "rec", "kl", "mi", "au", "cosine")
    }
    assert {result.dataset_split for result in data.eval_results} == {"validation"}


def test_it_claims_no_licence_for_texts_of_others(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    assert saved(tmp_path, make_recipe(), RECORD).data.license is None


def test_the_text_tells_method_schedule_and_figures(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    text = saved(tmp_path, make_recipe(method="attention"), RECORD).text
    for part in (
        "# SeqVAE + Attention on tiny",
        "`attention` pooling",
        "over 3 latent dimensions",
        "| 7 | 1,234 / 1,234 | 0.70 | 0.5 | 61 |",
        "| -ELBO | 26.78 |",
        "| MI | 0.00 |",
        "| active units | 3 |",
        "vae.encode(",
    ):
        assert part in text


def test_a_language_model_is_not_called_a_vae(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    record = RECORD | {"encoder_updates": 0, "kl": 0.0, "mi": None, "au": None, "cosine": None}
    loaded = saved(tmp_path, make_recipe(method="lstm_lm"), record)
    assert {result.metric_type for result in loaded.data.eval_results} == {"bound", "rec", "kl"}
    assert "language model" in loaded.text and "vae.nll(" in loaded.text
    assert "pooling of its states" not in loaded.text and "vae.encode(" not in loaded.text


@pytest.mark.parametrize("title", ["50% {better}: a # title", "- SeqVAE"])
def test_any_title_makes_a_readable_card(tmp_path: Path, make_recipe: Callable[..., Recipe], title: str) -> None:
    recipe = make_recipe().model_copy(update={"title": title})
    loaded = saved(tmp_path, recipe, RECORD)
    assert loaded.data.model_name == f"{title} on tiny" and f"# {title} on tiny" in loaded.text
