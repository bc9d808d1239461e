"""A tokenizer named by its id on the hub, over real HTTP."""

from pathlib import Path
from typing import Any

import pytest

from tests.data.test_subwords import like_gpt2

TRAIN = """
from pathlib import Path
from modeling_seqvae import SeqVAE
from modeling_seqvae.cli.app import app

Path("reviews.txt").write_text("The food was GOOD!\\nso-so…\\n她点了一杯咖啡。\\n" * 20, "utf-8")
app(
    ["train", "--corpus", "reviews.txt", "--preset", "tiny", "--tokenizer", name, "--output-dir", output,
     "--set", "training.epochs=1", "--set", "pretraining.training.epochs=1"],
    standalone_mode=False,
)
vae = SeqVAE.from_pretrained(output)
result = [vae.tokenizer.decode(ids, skip_special_tokens=True) for ids in vae.tokenizer(texts)["input_ids"]]
result += [Path(output, "recipe.yaml").read_text("utf-8"), vae.encode(texts).shape[0]]
"""
TEXTS = ["The food was GOOD!", "咖啡 😀"]


def test_a_run_takes_the_tokenizer_of_an_id_on_the_hub(hub: Any, package: Any, tmp_path: Path) -> None:
    like_gpt2().save_pretrained(tmp_path)
    hub.add("acme/pieces", {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()})
    *texts, recipe, encoded = package(TRAIN, name="acme/pieces", output="by-id", texts=TEXTS)
    assert texts == TEXTS and encoded == 2
    assert "tokenizer: acme/pieces" in recipe and "tokenizer_sha256" in recipe


def test_an_id_that_the_hub_does_not_have_is_told(hub: Any, package: Any) -> None:
    load = "from modeling_seqvae.data.subwords import load_tokenizer\nresult = load_tokenizer('acme/nothing')"
    with pytest.raises(Exception, match=r"'acme/nothing' could not be loaded .* or a model on the hub that has one"):
        package(load)
