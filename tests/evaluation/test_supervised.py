"""The supervised baseline: its size, what it reads, and that a seed fixes it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn
from torch.nn.utils import parameters_to_vector

from modeling_seqvae import SeqVAEConfig
from modeling_seqvae.encoders import SeqVAEEncoder
from modeling_seqvae.evaluation import supervised as module
from modeling_seqvae.evaluation.supervised import BiLSTMClassifier, matching_hidden_size, predict, train_classifier

CONFIG = SeqVAEConfig(vocab_size=20, embedding_size=6, hidden_size=8, latent_size=3)


def documents(count: int, seed: int) -> Dataset:
    """Tokenised documents of 1 to 7 words; the label is which of the words 4, 5 and 6 stands among them."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    ids = []
    for label in labels:
        words = random.integers(7, 20, random.integers(1, 8))
        words[random.integers(len(words))] = 4 + label
        ids.append([1, *words.tolist(), 2])
    return Dataset.from_dict({"input_ids": ids, "length": [len(row) for row in ids], "label": labels})


@pytest.fixture
def classifier() -> BiLSTMClassifier:
    return BiLSTMClassifier(CONFIG, 3).double().eval()


@pytest.mark.parametrize(("embedding", "hidden"), [(512, 1024), (256, 256), (64, 96), (6, 8)])
def test_it_has_about_as_many_weights_as_the_encoder_s_lstm(embedding, hidden) -> None:
    def weights(lstm: nn.Module) -> int:
        return sum(parameter.numel() for parameter in lstm.parameters())

    with torch.device("meta"):
        config = SeqVAEConfig(vocab_size=20, embedding_size=embedding, hidden_size=hidden, latent_size=3)
        ours, encoder = BiLSTMClassifier(config, 5).lstm, SeqVAEEncoder(config).layers[0]
    assert weights(ours) == pytest.approx(weights(encoder), rel=0.01 if hidden > 8 else 0.1)
    nearest = min(range(1, 2 * hidden), key=lambda size: abs(2 * size * (embedding + size + 2) * 4 - weights(encoder)))
    assert matching_hidden_size(embedding, hidden) == nearest


def test_the_features_are_the_last_states_of_two_lstms_that_read_from_either_end(classifier) -> None:
    ids = torch.tensor([[1, 5, 6, 7, 2]])
    one = {name: nn.LSTM(6, classifier.lstm.hidden_size, batch_first=True).double() for name in ("", "_reverse")}
    for suffix, lstm in one.items():
        lstm.load_state_dict({name: getattr(classifier.lstm, name + suffix) for name in lstm.state_dict()})
    embeds = classifier.embed_tokens(ids)
    features = torch.cat([one[""](embeds)[0][:, -1], one["_reverse"](embeds.flip(1))[0][:, -1]], -1)
    first, second, third = classifier.mlp
    expected = third(second(first(features).relu()).relu())
    torch.testing.assert_close(classifier(ids, torch.ones_like(ids)), expected)


def test_padding_changes_nothing(classifier) -> None:
    short, long = torch.tensor([[1, 5, 2]]), torch.tensor([[1, 5, 2, 0, 0], [1, 6, 7, 8, 2]])
    padded = classifier(long, (long != 0).long())[0]
    torch.testing.assert_close(padded, classifier(short, torch.ones_like(short))[0])


def test_a_label_that_a_word_tells_is_learnt_and_the_best_pass_is_kept() -> None:
    train, validation, test = documents(400, 0), documents(60, 1), documents(60, 2)
    config = SeqVAEConfig(vocab_size=20, embedding_size=24, hidden_size=32, latent_size=3)
    trained = train_classifier(config, train, validation, epochs=10, batch_size=8, show_progress=False)
    found = [(predict(trained.classifier, rows) == np.array(rows["label"])).mean() for rows in (validation, test)]
    assert found[0] == max(trained.accuracies)
    assert min(found) > 0.8


def test_it_stops_after_passes_without_a_better_one_and_returns_to_the_best(monkeypatch) -> None:
    train = documents(40, 0)
    answers = iter(
        [0.2, 0.6, 0.5, 0.6, 0.4, 0.3, 0.1, 0.9]
    )  # validation accuracies, as shares of right answers out of ten
    validation = train.select(range(10))
    right = np.array(validation["label"])

    def pretended(classifier, dataset):
        share = next(answers)
        states.append(parameters_to_vector(classifier.parameters()).detach().clone())
        return np.where(np.arange(10) < round(10 * share), right, right + 1)

    states: list[torch.Tensor] = []
    monkeypatch.setattr(module, "predict", pretended)
    trained = train_classifier(CONFIG, train, validation, epochs=20, show_progress=False)
    assert trained.accuracies == [0.2, 0.6, 0.5, 0.6, 0.4, 0.3, 0.1]  # an equal one is not better
    torch.testing.assert_close(parameters_to_vector(trained.classifier.parameters()), states[1], rtol=0, atol=0)


def test_a_seed_fixes_it_whatever_the_global_state_and_leaves_that_alone(monkeypatch) -> None:
    train, validation = documents(60, 0), documents(20, 1)
    found, gpus = [], []
    for state, seed in ((1, 0), (2, 0), (1, 3)):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "manual_seed_all", gpus.append)
            trained = train_classifier(CONFIG, train, validation, seed=seed, epochs=2, show_progress=False)
        assert torch.equal(torch.get_rng_state(), before) and not gpus
        found.append(parameters_to_vector(trained.classifier.parameters()))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


class Stopped(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_training_goes_on_from_its_last_pass_to_the_same_weights(tmp_path, monkeypatch, after) -> None:
    train, validation = documents(60, 0), documents(20, 1)
    options = {"epochs": 5, "show_progress": False}
    whole = train_classifier(CONFIG, train, validation, **options)
    kept, epoch, epochs = tmp_path / "kept.pt", module.LengthGroupedBatches.epoch, []

    def noting(batches, number):
        epochs.append(number)
        if len(epochs) == after + 1:
            raise Stopped
        return epoch(batches, number)

    monkeypatch.setattr(module.LengthGroupedBatches, "epoch", noting)
    with pytest.raises(Stopped):
        train_classifier(CONFIG, train, validation, kept=kept, **options)
    other = train_classifier(CONFIG, train, validation, seed=1, **(options | {"epochs": 1}))  # without a file
    assert kept.is_file() and other.accuracies
    epochs[:] = [-1] * 10
    found = train_classifier(CONFIG, train, validation, kept=kept, **options)
    assert epochs[10:] == list(range(after, 5)) and found.accuracies == whole.accuracies
    one, same = (parameters_to_vector(trained.classifier.parameters()) for trained in (whole, found))
    assert torch.equal(one, same) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["seed", "documents", "damage"])
def test_what_another_training_left_is_not_gone_on_from(tmp_path, monkeypatch, change) -> None:
    train, validation = documents(60, 0), documents(20, 1)
    kept = tmp_path / "kept.pt"
    monkeypatch.setattr(Path, "unlink", lambda *unused, **options: None)  # as if it had been killed at the end
    train_classifier(CONFIG, train, validation, epochs=2, show_progress=False, kept=kept)
    seed, train = (1, train) if change == "seed" else (0, documents(60, 5))
    if change == "damage":
        kept.write_bytes(kept.read_bytes()[:100])
    expected = train_classifier(CONFIG, train, validation, seed=seed, epochs=3, show_progress=False)
    found = train_classifier(CONFIG, train, validation, seed=seed, epochs=3, show_progress=False, kept=kept)
    one, same = (parameters_to_vector(trained.classifier.parameters()) for trained in (expected, found))
    assert torch.equal(one, same)


def test_predictions_do_not_depend_on_the_batch_size(classifier) -> None:
    test = documents(30, 2)
    assert predict(classifier, test, 1).tolist() == predict(classifier, test, 7).tolist()


def test_no_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="no sentences to train on"):
        train_classifier(CONFIG, documents(5, 0).select([]), documents(5, 1), show_progress=False)


def test_a_class_without_training_documents_is_never_predicted() -> None:
    train, test = (
        rows.map(lambda row: {"label": 9 if row["label"] else 0}) for rows in (documents(12, 0), documents(30, 1))
    )
    for seed in range(12):  # with some of these one of the eight between would be the likeliest after one step
        trained = train_classifier(CONFIG, train, test, seed, epochs=1, show_progress=False)
        assert set(predict(trained.classifier, test)) <= {0, 9}
        assert all(weight.isfinite().all() for weight in trained.classifier.mlp[-1].weight)
