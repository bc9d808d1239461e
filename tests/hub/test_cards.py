"""Cards against the checks that the hub makes of them."""

from pathlib import Path
from typing import Any

import pytest

CARDS = sorted((Path(__file__).resolve().parents[2] / "model_cards").glob("*/README.md"))

VALIDATE = """
from huggingface_hub import ModelCard

for path in paths:
    ModelCard.load(path).validate()
"""


def test_every_committed_card_is_one_that_the_hub_accepts(hub: Any, package: Any) -> None:
    assert CARDS
    package(VALIDATE, paths=CARDS)
    assert hub.requests == [("POST", "/api/validate-yaml")] * len(CARDS)


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ("name: demo", "name: 5", "dataset.name.* is required"),
        ("- seqvae", "- 1", "must be an array of strings"),
        ("library_name: transformers", "library_name: [a, b]", "must be a string"),
    ],
)
def test_it_would_not_accept_any_card(
    hub: Any, package: Any, tmp_path: Path, was: str, becomes: str, told: str
) -> None:
    text = next(path for path in CARDS if path.parent.name.startswith("demo")).read_text("utf-8")
    (tmp_path / "README.md").write_text(text.replace(was, becomes), "utf-8")
    with pytest.raises(Exception, match=rf"(?s)ValueError.*{told}"):
        package(VALIDATE, paths=[tmp_path / "README.md"])
