"""Our checkpoints in sentence-transformers give our features."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from modeling_seqvae import SeqVAE

sentence_transformers = pytest.importorskip("sentence_transformers")

from modeling_seqvae.hub.push import contents  # noqa: E402
from modeling_seqvae.hub.sentence_transformers import SeqVAEModule, export  # noqa: E402

CHECKPOINT = Path(__file__).resolve().parents[2] / "model_cards" / "demo-max-pool"
TEXTS = ["the soup was warm .", "our room seemed cold and slow", "", "the staff was friendly and the room was clean ."]


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))


@pytest.fixture(scope="module")
def vae() -> SeqVAE:
    return SeqVAE.from_pretrained(CHECKPOINT)


def load(path, **arguments):
    return sentence_transformers.SentenceTransformer(
        str(path), device="cpu", trust_remote_code=True, local_files_only=True, **arguments
    )


def test_encode_gives_the_posterior_means(checkpoint, vae):
    assert set(export(checkpoint)) < {path.name for path in checkpoint.iterdir()}
    model = load(checkpoint)
    np.testing.assert_allclose(model.encode(TEXTS), vae.encode(TEXTS, "mean"), atol=1e-5)
    assert model.get_embedding_dimension() == vae.model.config.latent_size


@pytest.mark.parametrize("features", ["mean_variance", "centre", "pooled"])
def test_other_features_are_chosen_when_exporting(checkpoint, vae, features):
    export(checkpoint, features)
    model = load(checkpoint)
    np.testing.assert_allclose(model.encode(TEXTS, batch_size=2), vae.encode(TEXTS, features), atol=1e-5)
    assert model.get_embedding_dimension() == len(vae.feature_names(features))


def test_what_was_exported_is_still_a_checkpoint_of_ours(checkpoint, vae):
    export(checkpoint)
    np.testing.assert_array_equal(SeqVAE.from_pretrained(checkpoint).encode(TEXTS), vae.encode(TEXTS))


def test_a_run_can_be_shared_so_that_sentence_transformers_loads_it(make_run, tmp_path):
    run = make_run()
    shared = contents(run, "user/name", sentence_features="pooled")
    for name, content in shared.files.items():
        (tmp_path / name).write_bytes(content.read_bytes() if isinstance(content, Path) else content)
    expected = SeqVAE.from_pretrained(run / "best").encode(TEXTS, "pooled")
    np.testing.assert_allclose(load(tmp_path).encode(TEXTS), expected, atol=1e-5)
    with pytest.raises(ValueError, match="features='sum' is not one of"):
        contents(run, "user/name", sentence_features="sum")


def test_without_an_export_the_module_itself_loads(vae):
    model = sentence_transformers.SentenceTransformer(modules=[SeqVAEModule(vae)], device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS), vae.encode(TEXTS, "mean"), atol=1e-5)


def test_saved_by_sentence_transformers_it_loads_in_both(checkpoint, vae, tmp_path):
    export(checkpoint, "pooled")
    load(checkpoint).save(str(tmp_path / "saved"))
    np.testing.assert_allclose(load(tmp_path / "saved").encode(TEXTS), vae.encode(TEXTS, "pooled"), atol=1e-5)
    np.testing.assert_allclose(SeqVAE.from_pretrained(tmp_path / "saved").encode(TEXTS), vae.encode(TEXTS), atol=1e-5)


def test_semantic_search_and_evaluators_work(checkpoint):
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    export(checkpoint)
    model = load(checkpoint)
    found = sentence_transformers.util.semantic_search(model.encode(TEXTS[1:2]), model.encode(TEXTS), top_k=1)
    assert found[0][0]["corpus_id"] == 1
    evaluator = EmbeddingSimilarityEvaluator(TEXTS, TEXTS[::-1], [0.1, 0.9, 0.8, 0.2], write_csv=False)
    assert all(-1 <= value <= 1 for value in evaluator(model).values())


def test_other_features_are_refused_and_nothing_is_written(checkpoint):
    before = sorted(checkpoint.iterdir())
    with pytest.raises(ValueError, match="features='sum' is not one of"):
        export(checkpoint, "sum")
    assert sorted(checkpoint.iterdir()) == before
    with pytest.raises(FileNotFoundError, match="no SeqVAE checkpoint"):
        export(checkpoint / "nowhere")
