"""Where a program would wait for a GPU: as often as is known, and no more. Lower a number when a wait is gone."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from waits import Waits

from modeling_seqvae.evaluation.evaluate import Evaluator
from modeling_seqvae.noise import sentence_generator

FORWARD = 4
"""Of a forward pass with labels and its way back: the padding's side, the masked words (twice, and their gradient)
and the equal factors of a cross-entropy."""


@pytest.fixture
def dataset() -> Dataset:
    """Twelve tokenised sentences of several lengths."""
    random = np.random.default_rng(0)
    ids = [[1, *random.integers(4, 20, length).tolist(), 2] for length in random.integers(1, 9, 12)]
    columns = {"input_ids": ids, "length": list(map(len, ids)), "unknown": [0] * 12, "index": list(range(12))}
    return Dataset.from_dict(columns)


def waits(work) -> dict[str, int]:
    work()  # what is looked at once
    with Waits() as found:
        work()
    return dict(found.places)


def test_a_forward_and_backward_pass(make_model, batch):
    model = make_model().train()
    found = waits(lambda: model(**batch, return_logits=False).loss.backward())
    assert sum(found.values()) <= FORWARD + 1, found


def test_importance_weighting_waits_for_its_words_once_a_chunk(make_model, batch):
    model = make_model()
    inputs = (batch["input_ids"], batch["attention_mask"])
    generators = [sentence_generator(0, number) for number in range(4)]
    found = waits(lambda: model.iw_nll(*inputs, num_samples=50, generator=generators))
    assert sum(found.values()) <= 3, found


def test_encoding_does_not_wait(make_model, batch):
    assert waits(lambda: make_model().encode(batch["input_ids"], batch["attention_mask"]).mean) == {}


def test_a_word_that_is_written_waits_once(make_model):
    """transformers asks whether all sentences have ended."""
    model = make_model()
    model.generation_config.eos_token_id = None

    def count(length: int) -> int:
        found = waits(lambda: model.sample(3, generator=torch.Generator().manual_seed(0), max_length=length))
        return sum(found.values())

    assert count(12) - count(11) <= 1
    assert count(11) <= 10 + 3


def test_an_evaluation_waits_for_nothing_of_its_own(make_model, dataset):
    """Beyond what the model itself waits for: results are on their way to the host while the next batch is read."""
    evaluator = Evaluator(make_model(), dataset, batch_size=4, progress=False, shuffle_words=True)
    assert waits(lambda: list(evaluator._batches(len(dataset), "reading"))) == {}
    for work in (evaluator.measure, evaluator.means, evaluator.features, lambda: evaluator.nll(3)):
        found = waits(work)
        own = [place for place in found if place.startswith(("evaluate.py", "metrics.py", "noise.py"))]
        once = [place for place in own if not place.endswith("tolist")]  # which is of what has arrived
        assert sum(found[place] for place in once) <= 1, own


def test_the_counter_sees_every_kind_of_wait():
    values = torch.tensor([1.0, 2.0, 3.0])
    cases = {
        "_local_scalar_dense": lambda: values.sum().item(),
        "nonzero": lambda: values.nonzero(),
        "index": lambda: values[values > 1],
        "masked_select": lambda: values.masked_select(values > 1),
        "cpu": lambda: values.cpu(),
        "tolist": lambda: values.tolist(),
        "numpy": lambda: values.numpy(),
        "to": lambda: values.to("cpu"),
    }
    for name, work in cases.items():
        with Waits() as found:
            work()
        assert any(place.endswith(f" {name}") for place in found.places), (name, found.places)
    with Waits() as found:
        values[torch.tensor([0, 2])]
        values.sum() + 1
    assert found.count == 0
