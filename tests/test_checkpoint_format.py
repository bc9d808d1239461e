"""Checkpoints of earlier formats load as they always did; those of later ones are refused by name."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from transformers import AutoModel

from modeling_seqvae import SeqVAE, SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.configuration_seqvae import FORMAT_VERSION

FIXTURES = Path(__file__).parent / "fixtures"


def with_version(folder: Path, version: Any, **changes: Any) -> Path:
    """A copy of the first format's checkpoint that says it is of another version; None says nothing."""
    shutil.copytree(FIXTURES / "checkpoint-v1", folder)
    config = json.loads((folder / "config.json").read_text("utf-8")) | changes
    config.pop("format_version")
    (folder / "config.json").write_text(json.dumps(config | ({} if version is None else {"format_version": version})))
    return folder


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
@pytest.mark.filterwarnings("ignore:.*not in the model's vocabulary")
def test_a_checkpoint_gives_what_it_gave_when_it_was_saved(version: int) -> None:
    folder = FIXTURES / f"checkpoint-v{version}"
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    texts = expected["texts"]
    vae = SeqVAE.from_pretrained(folder)
    np.testing.assert_allclose(vae.encode(texts), expected["encoded"], atol=1e-4)
    np.testing.assert_allclose(vae.encode(texts, "pooled"), expected["pooled"], atol=1e-4)
    np.testing.assert_allclose(vae.nll(texts, num_samples=20), expected["nll"], atol=1e-3)
    assert vae.reconstruct(texts, max_length=8) == expected["reconstructed"]
    assert vae.sample(2, seed=0, max_length=12) == expected["sampled"]


def test_a_checkpoint_that_does_not_say_is_of_the_first_format(tmp_path: Path) -> None:
    silent, said = with_version(tmp_path / "silent", None), with_version(tmp_path / "said", 1)
    assert SeqVAEConfig.from_pretrained(silent).to_dict() == SeqVAEConfig.from_pretrained(said).to_dict()


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, "2.0"])
@pytest.mark.parametrize("loader", [SeqVAE, SeqVAEForTextModeling, AutoModel, SeqVAEConfig])
def test_a_later_format_is_refused_with_what_to_do(tmp_path: Path, loader: Any, version: Any) -> None:
    """Also where a field has another type by then, which would be refused for that."""
    folder = with_version(tmp_path / "later", version, pooling_mode=["a", "list"])
    with pytest.raises(ValueError, match=rf"of format {version!r}, .* up to {FORMAT_VERSION}: install a later version"):
        loader.from_pretrained(folder)


def test_what_is_saved_says_the_oldest_format_that_has_what_it_needs(tmp_path: Path) -> None:
    for name, fields in {"unigram": {"decoder": "unigram"}, "convolutional": {"encoder": "convolutional"}}.items():
        SeqVAEConfig(**fields).save_pretrained(tmp_path / name)
        assert json.loads((tmp_path / name / "config.json").read_text("utf-8"))["format_version"] == 2
    config = SeqVAEConfig.from_pretrained(with_version(tmp_path / "silent", None))
    config.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text("utf-8"))["format_version"] == 1
    config.transformers_version = transformers.__version__
    assert SeqVAEConfig.from_pretrained(tmp_path / "saved") == config
    assert SeqVAEConfig(**config.to_dict()) == config
