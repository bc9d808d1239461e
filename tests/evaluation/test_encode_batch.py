"""`datasets` maps over SeqVAE.encode_batch."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from modeling_seqvae import SeqVAE

CHECKPOINT = Path(__file__).resolve().parents[2] / "model_cards" / "demo-max-pool"
TEXTS = ["the soup was warm .", "", "our room seemed cold and slow", "the staff was friendly"] * 3


@pytest.fixture(scope="module")
def vae() -> SeqVAE:
    return SeqVAE.from_pretrained(CHECKPOINT)


@pytest.mark.filterwarnings("ignore:.*not in the model's vocabulary")
def test_map_adds_the_features_in_order(vae):
    rows = Dataset.from_dict({"text": TEXTS, "stars": list(range(len(TEXTS)))})
    encoded = rows.map(vae.encode_batch, batched=True, batch_size=5)
    assert encoded.column_names == ["text", "stars", "features"]
    np.testing.assert_allclose(np.array(encoded["features"]), vae.encode(TEXTS), atol=1e-6)
    assert encoded.features["features"].feature.dtype == "float32"


@pytest.mark.filterwarnings("ignore:.*not in the model's vocabulary")
def test_columns_and_features_are_arguments(vae):
    rows = Dataset.from_dict({"review": TEXTS})
    arguments = {"text_column": "review", "output_column": "z", "features": "mean"}
    encoded = rows.map(vae.encode_batch, batched=True, fn_kwargs=arguments, remove_columns="review")
    assert encoded.column_names == ["z"]
    np.testing.assert_allclose(np.array(encoded["z"]), vae.encode(TEXTS, "mean"), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*not in the model's vocabulary")
def test_the_cache_of_datasets_knows_the_model(vae, tmp_path):
    Dataset.from_dict({"text": TEXTS}).save_to_disk(tmp_path / "rows")
    rows = Dataset.load_from_disk(tmp_path / "rows")
    first = rows.map(vae.encode_batch, batched=True)
    again = rows.map(SeqVAE.from_pretrained(CHECKPOINT).encode_batch, batched=True)
    assert again.cache_files == first.cache_files


def test_a_missing_column_is_named_with_those_there_are(vae):
    rows = Dataset.from_dict({"review": TEXTS, "stars": [1] * len(TEXTS)})
    with pytest.raises(ValueError, match="no column 'text'; the columns are review, stars"):
        rows.map(vae.encode_batch, batched=True)
