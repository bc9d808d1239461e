from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from modeling_seqvae.data.corpus_spec import CorpusFiles, CorpusSpec
from modeling_seqvae.training.card import card
from modeling_seqvae.training.recipe import Recipe, resolve

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
EVALUATION = RECORD | {
    "nll": 27.125,
    "nll_se": 0.3,
    "nll_gap": 1.5,
    "nll_gap_se": 0.0312,
    "nll_samples": 500,
    "nll_sentences": 300,
    "ppl": 3.5,
    "kl": 0.05,
    "au": 0,
    "sentences": 2000,
}


def saved(folder: Path, recipe: Recipe, record: dict[str, Any], **known: Any) -> ModelCard:
    """The card as the hub reads it."""
    card(recipe, record, **known).save(folder / "README.md")
    return ModelCard.load(folder / "README.md")


def test_metadata_says_what_was_measured(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    data = saved(tmp_path, make_recipe(), RECORD).data
    assert data.library_name == "transformers" and "seqvae" in data.tags
    assert data.model_name == "SeqVAE + MaxPool on tiny"
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {
        key: RECORD[key] for key in ("bound", "rec", "kl", "mi", "au", "cosine")
    }
    assert {result.dataset_split for result in data.eval_results} == {"validation"}


def test_the_metadata_has_an_identifier_for_a_corpus_of_any_name(tmp_path: Path) -> None:
    recipe = resolve("max_pool", CorpusSpec(name="my reviews, 2nd", files=CorpusFiles(train="train.txt")), "tiny")
    results = saved(tmp_path, recipe, RECORD).data.eval_results
    assert {(result.dataset_name, result.dataset_type) for result in results} == {("my reviews, 2nd", "my-reviews-2nd")}


def test_it_claims_no_licence_for_texts_of_others(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    assert saved(tmp_path, make_recipe(), RECORD).data.license is None


def test_the_text_tells_what_the_optimiser_was_given(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    plain, told = make_recipe(), ["training.optimizer=adam", "training.optimizer_options={eps: 1e-6}"]
    assert "by `sgd` on the objective" in saved(tmp_path, plain, RECORD).text
    both = make_recipe(*told, "training.table_options={lr: 0.04, eps: 0.01}")
    words = "by `adam`, eps 1e-06 (embeddings and vocabulary layer, lr 0.04, eps 0.01) on the objective"
    assert words in " ".join(saved(tmp_path, both, RECORD).text.split())


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
    of_latents = ("pooling of its states", "vae.encode(", "draw of z", "KL weight", "prior", "features")
    loaded = saved(tmp_path, make_recipe(method="lstm_lm"), record, samples=["a b ."])
    assert "that it generates" in loaded.text and not any(part in loaded.text for part in of_latents)


@pytest.mark.parametrize("title", ["50% {better}: a # title", "- SeqVAE"])
def test_any_title_makes_a_readable_card(tmp_path: Path, make_recipe: Callable[..., Recipe], title: str) -> None:
    recipe = make_recipe().model_copy(update={"title": title})
    loaded = saved(tmp_path, recipe, RECORD)
    assert loaded.data.model_name == f"{title} on tiny" and f"# {title} on tiny" in loaded.text


def test_an_evaluation_adds_a_column_and_its_own_metadata(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    loaded = saved(tmp_path, make_recipe(), RECORD, evaluation=EVALUATION)
    figures = {(result.dataset_split, result.metric_type): result.metric_value for result in loaded.data.eval_results}
    assert figures["test", "nll"] == 27.125 and figures["validation", "kl"] == 0.881 and figures["test", "kl"] == 0.05
    assert "| KL | 0.88 | 0.05 |" in loaded.text and "| NLL | – | 27.12 |" in loaded.text
    assert "NLL by 500 importance samples on the first 300 sentences" in loaded.text


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ({"mi": 0.5}, "The posterior has not collapsed: on the validation set the KL is 0.88 nats"),
        ({"kl": 0.02}, "The posterior has collapsed: on the validation set the KL is 0.02 nats"),
        ({"kl": 0.12, "au": 0}, "The posterior has all but collapsed"),
        ({}, "The posterior has all but collapsed: on the validation set the KL is 0.88 nats a sentence"),
        ({}, "ignored), the mutual information of sentence and latent 0.00 nats, and"),
    ],
)
def test_the_verdict_is_that_of_the_figures(
    tmp_path: Path, make_recipe: Callable[..., Recipe], figures: dict[str, Any], verdict: str
) -> None:
    assert verdict in saved(tmp_path, make_recipe(), RECORD | figures).text


def test_an_evaluation_in_bf16_is_told(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    for evaluation in (EVALUATION, EVALUATION | {"precision": "no"}):
        assert "bf16" not in saved(tmp_path, make_recipe(), RECORD, evaluation=evaluation).text
    text = saved(tmp_path, make_recipe(), RECORD, evaluation=EVALUATION | {"precision": "bf16"}).text
    assert "measured in bf16." in text


def test_the_verdict_is_of_the_test_set_where_there_is_one(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    text = saved(tmp_path, make_recipe(), RECORD, evaluation=EVALUATION).text
    assert "The posterior has collapsed: on the test set the KL is 0.05 nats" in text


def test_the_size_of_the_model_is_told_where_it_is_known(
    tmp_path: Path, make_recipe: Callable[..., Recipe], make_model: Callable[..., Any]
) -> None:
    model = make_model(num_hidden_layers=2)
    text = saved(tmp_path, make_recipe(), RECORD, config=model.config, epochs=3).text
    assert f"- parameters: {model.num_parameters():,}\n- vocabulary: 20 tokens" in text
    assert "in each of 2 layers" in text and "3 of at most 3 epochs of 176 updates, in batches of 8" in text
    assert "parameters:" not in saved(tmp_path, make_recipe(), RECORD).text


def test_samples_stand_as_they_are(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    samples = ["a | b", "<unk> ``` # no *markup*", "{{ title }}"]
    text = saved(tmp_path, make_recipe(), RECORD, samples=samples).text
    assert "\n    a | b\n    <unk> ``` # no *markup*\n    {{ title }}\n" in text
    assert "## Samples" not in saved(tmp_path, make_recipe(), RECORD).text


def test_code_curves_licence_and_source_are_told(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    loaded = saved(tmp_path, make_recipe(), RECORD, source="user/name", code=True, curves=True, licence="mit")
    assert loaded.data.license == "mit" and "](curves.png)" in loaded.text
    assert 'AutoTokenizer.from_pretrained("user/name", trust_remote_code=True)' in loaded.text
    assert "posterior = model.encode(" in loaded.text
    plain = saved(tmp_path, make_recipe(), RECORD).text
    assert "trust_remote_code" not in plain and "curves.png" not in plain


def test_a_dataset_of_the_hub_is_named_where_it_was_used(tmp_path: Path) -> None:
    built, read = (resolve("max_pool", "yelp", limits={"train": 100}) for _ in range(2))
    read = read.model_copy(update={"data_dir": "/home/ann/data"})
    loaded = saved(tmp_path, built, RECORD)
    assert loaded.data.datasets == ["Yelp/yelp_review_full"] and "of `Yelp/yelp_review_full` on the hub" in loaded.text
    assert "only the first documents of: train 100" in loaded.text
    loaded = saved(tmp_path, read, RECORD)
    assert loaded.data.datasets is None and "`yelp`, from files" in loaded.text
    assert "ann" not in loaded.content.replace("annealing", "")


def test_the_card_cites_the_paper_and_names_the_limits(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    text = saved(tmp_path, make_recipe(), RECORD).text
    assert "arXiv:1911.03976" in text and "## Limits" in text
