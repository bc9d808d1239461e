"""transformers' own common tests of a model, on ours.

They are in transformers' source distribution, not in its wheel; `make test-newest` and `make test-oldest` fetch it and
name its folder in TRANSFORMERS_SOURCE.
"""

import importlib
import os
import sys
import types
import unittest
from pathlib import Path
from typing import Any

import pytest
import torch

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling, SeqVAEModel

SOURCE = os.environ.get("TRANSFORMERS_SOURCE")
if SOURCE is None:
    pytest.skip("TRANSFORMERS_SOURCE does not name an unpacked source distribution", allow_module_level=True)


def common_tests(folder: Path) -> Any:
    """The module tests/test_modeling_common.py, without the tests of other kinds that the distribution lacks."""
    package = types.ModuleType("transformers_suite")
    package.__path__ = [str(folder / "tests")]
    missing = {"exporters.test_export": "ExportTesterMixin", "generation.test_utils": "GenerationTesterMixin"}
    sys.modules[package.__name__] = package
    for path, mixin in missing.items():
        module = types.ModuleType(f"{package.__name__}.{path}")
        setattr(module, mixin, type(mixin, (), {}))
        sys.modules[module.__name__.rpartition(".")[0]] = types.ModuleType(module.__name__.rpartition(".")[0])
        sys.modules[module.__name__] = module
    return importlib.import_module(f"{package.__name__}.test_modeling_common")


common = common_tests(Path(SOURCE))
# It sets what norm layers read, of which ours has none, and takes the decoder's name for a configuration.
common.set_config_for_less_flaky_test = lambda config: None


class SmallModel:
    """What the common tests ask of a model's tester."""

    is_training = True
    batch_size, seq_length = 3, 7
    num_hidden_layers, hidden_size = 2, 16

    def __init__(self, **tokens: int):
        self.tokens = tokens

    def get_config(self) -> SeqVAEConfig:
        sizes = {"vocab_size": 99, "embedding_size": 16, "hidden_size": 16, "latent_size": 4, "num_hidden_layers": 2}
        return SeqVAEConfig(**sizes, **self.tokens)

    def prepare_config_and_inputs_for_common(self) -> tuple[SeqVAEConfig, dict[str, torch.Tensor]]:
        ids = torch.randint(4, 99, (self.batch_size, self.seq_length))
        return self.get_config(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class TestSeqVAE(common.ModelTesterMixin, unittest.TestCase):
    all_model_classes = (SeqVAEModel, SeqVAEForTextModeling)
    is_encoder_decoder = True
    has_attentions = False
    # Asks for tests that the distribution lacks (see test_generation.py), and for a loss from a base model.
    test_generation_tester_mixin_inheritance = None
    test_training = None

    def setUp(self) -> None:
        self.model_tester = SmallModel()

    def test_resize_tokens_embeddings(self) -> None:
        """It makes 3 the padding, which is our unknown token, and padding may be no other token."""
        self.model_tester = SmallModel(pad_token_id=3, unk_token_id=0)
        super().test_resize_tokens_embeddings()
