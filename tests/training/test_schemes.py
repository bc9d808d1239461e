"""Aggressive inference: what the inner loop changes, when it ends, and what is counted."""

import json
import math

import numpy as np
import pytest
import torch

from modeling_seqvae.training import schemes


@pytest.fixture
def eager(make_trainer, tmp_path):
    """A trainer of the scheme, before its first batch."""
    trainer = make_trainer(tmp_path / "run", method="aggressive")
    trainer.model.train()
    return trainer


def parts_of(trainer):
    weights = dict(trainer.model.named_parameters())
    encoder = {name for name in weights if name.startswith("model.encoder.")}
    return encoder, weights.keys() - encoder


def copies(trainer):
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}


def changed(trainer, before):
    return {name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])}


def test_encoder_and_decoder_have_an_optimiser_each_and_share_nothing(eager):
    encoder, decoder = parts_of(eager)
    sizes = [sum(len(group["params"]) for group in optimizer.param_groups) for optimizer in eager.optimizers]
    assert sizes == [len(encoder), len(decoder)] and all(sizes)


def test_the_inner_loop_leaves_the_decoder_untouched_and_the_outer_step_the_encoder(eager, monkeypatch):
    encoder, decoder = parts_of(eager)
    step, touched = eager.update._step, []

    def noting(optimizers, *arguments):
        before = copies(eager)
        sums = step(optimizers, *arguments)
        touched.append(changed(eager, before))
        return sums

    monkeypatch.setattr(eager.update, "_step", noting)
    eager.update(next(iter(eager.loader.epoch(0))), 0, 0.5)
    *inner, outer = touched
    assert inner and all(names and names <= encoder for names in inner)
    assert outer and outer <= decoder
    assert len(inner) == eager.update.encoder_updates(1)


def test_a_frozen_encoder_has_no_inner_loop_and_no_updates_to_count(eager):
    decoder = parts_of(eager)[1]
    before, eager.update.encoder_frozen = copies(eager), True
    eager.update(next(iter(eager.loader.epoch(0))), 0, 0.5)
    assert changed(eager, before) <= decoder and eager.update.extra_updates == 0


def test_the_norm_that_is_clipped_is_of_all_weights(eager, monkeypatch):
    clip, norms = eager.accelerator.clip_grad_norm_, []

    def noting(parameters, largest):
        parameters = list(parameters)
        assert len(parameters) == len(list(eager.model.parameters()))
        expected = torch.stack([weight.grad.norm() for weight in parameters if weight.grad is not None]).norm()
        norms.append((clip(parameters, largest), expected))
        return norms[-1][0]

    monkeypatch.setattr(eager.accelerator, "clip_grad_norm_", noting)
    eager.update(next(iter(eager.loader.epoch(0))), 0, 0.5)
    for found, expected in norms:
        torch.testing.assert_close(found, expected)


def test_a_loss_that_is_not_a_number_names_the_batch_of_the_inner_loop_that_had_it(eager, monkeypatch):
    output, random_batches, read = eager.objective.output, eager.loader.random_batches, []

    def noting(*arguments):
        for batch in random_batches(*arguments):
            read.append(batch)
            yield batch

    def bad_when_two_random_ones_were_read(model, batch, kl_weight):
        found = output(model, batch, kl_weight)
        found.loss = found.loss * (math.nan if len(read) == 2 else 1)
        return found

    monkeypatch.setattr(eager.loader, "random_batches", noting)
    monkeypatch.setattr(eager.objective, "output", bad_when_two_random_ones_were_read)
    with pytest.raises(FloatingPointError) as raised:
        eager.update(next(iter(eager.loader.epoch(0))), 0, 0.5)
    assert f"(training sentences {', '.join(map(str, read[1].numbers[:8]))})" in str(raised.value)


def scripted(trainer, monkeypatch, losses_per_word):
    """Lets the inner steps, which then change nothing, find these losses a word; notes the batches they read."""
    losses, read = iter(losses_per_word), []

    def step(optimizers, batch, kl_weight, update, number=None):
        if number is None:
            return torch.zeros(3)
        read.append(tuple(batch.numbers))
        return torch.tensor([0.0, 0.0, next(losses) * trainer.loader.predicted_words(batch.numbers)])

    monkeypatch.setattr(trainer.update, "_step", step)
    return read


@pytest.mark.parametrize(
    ("losses", "steps"),
    [
        ([3.0] * 15 + [2.0] * 15 + [2.5] * 15, 45),  # falls, then rises
        ([3.0] * 15 + [3.0] * 15, 30),  # no longer falls
        ([4.0] * 15 + [1.0] * 14 + [100.0], 30),  # the mean of a block, not its last
        ([100.0 - number for number in range(100)], 100),  # falls for ever
    ],
)
def test_it_ends_when_the_loss_per_word_no_longer_falls(eager, monkeypatch, losses, steps):
    read = scripted(eager, monkeypatch, losses)
    batch = next(iter(eager.loader.epoch(0)))
    eager.update(batch, 0, 0.5)
    assert len(read) == steps == eager.update.encoder_updates(1)
    assert read[0] == tuple(batch.numbers)
    batches = {tuple(numbers) for numbers in eager.batches.epoch(0)}
    assert set(read) <= batches and len(set(read)) > 3


def test_losses_are_weighted_by_words(eager, monkeypatch):
    """A block's loss per word is its loss over its words, whatever the batches' lengths."""
    seen = []
    batches = [eager.loader._load(numbers) for numbers in eager.batches.epoch(0)[:5]]
    sums = [torch.tensor(float(number)) for number in range(5)]
    seen = eager.update._loss_per_word(list(zip(batches, sums, strict=True)))
    words = sum(int(part.tensors["attention_mask"].sum()) - 8 for batch in batches for part in batch.parts)
    assert seen == pytest.approx(10 / words)


def test_random_batches_and_noise_are_functions_of_seed_and_update(make_trainer, tmp_path, monkeypatch):
    reads = []
    for name, update in (("a", 3), ("b", 3), ("c", 4)):
        trainer = make_trainer(tmp_path / name, method="aggressive")
        np.random.seed(hash(name) % 1000)
        reads.append(scripted(trainer, monkeypatch, [3.0] * 30))
        trainer.update(next(iter(trainer.loader.epoch(0))), update, 0.5)
    assert reads[0] == reads[1] != reads[2]


@pytest.mark.parametrize(("mutual", "ends_after"), [([0.5, 0.9, 0.8, 2.0], 3), ([0.1, 0.1, 0.2], None), ([0.3], None)])
def test_the_first_fall_of_mutual_information_ends_it_for_good(eager, mutual, ends_after):
    for epoch, value in enumerate(mutual, start=1):
        news = eager.update.end_epoch({"mi": value})
        assert (news is not None) == (epoch == ends_after)
        assert eager.update.active == (ends_after is None or epoch < ends_after)


def test_afterwards_updates_are_joint_and_both_are_counted(eager):
    batches = iter(eager.loader.epoch(0))
    for update in range(2):
        eager.update(next(batches), update, 0.5)
    inner = eager.update.encoder_updates(2)
    assert inner > 2
    eager.update.end_epoch({"mi": 1.0})
    eager.update.end_epoch({"mi": 0.5})
    before = copies(eager)
    eager.update(next(batches), 2, 0.5)
    encoder, decoder = parts_of(eager)
    names = changed(eager, before)
    assert names & encoder and names & decoder
    assert eager.update.encoder_updates(3) == inner + 1


def test_a_joint_update_is_that_of_one_optimiser(make_trainer, tmp_path, weights_of):
    """Two optimisers that step together are one, bit for bit."""
    trainers = [make_trainer(tmp_path / method, method=method) for method in ("aggressive", "seqvae")]
    for trainer in trainers:
        trainer.model.train()
        if trainer.spec.scheme == "aggressive":
            trainer.update.active = False
        for update, batch in enumerate(trainer.loader.epoch(0)):
            trainer.update(batch, update, 0.5)
    one, other = map(weights_of, trainers)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_tells_both_counts(make_trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(schemes, "MOST_INNER_UPDATES", 16)
    history = make_trainer(tmp_path, method="aggressive").train()
    assert [record["decoder_updates"] for record in history] == [8, 16, 24]
    assert history[0]["encoder_updates"] == 8 * 16  # with so few batches, no block of 15 ends it before
    assert 16 <= history[1]["encoder_updates"] - history[0]["encoder_updates"] + 8 <= 8 * 16 + 8


def test_its_last_mutual_information_survives_an_interruption(make_trainer, tmp_path):
    """What falls in the first epoch after a resume falls below what was measured before it."""
    first, resumed, other = (make_trainer(tmp_path / name, method="aggressive").update for name in "abc")
    first.end_epoch({"mi": 0.9})
    first.extra_updates = 7
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert resumed.active and resumed.encoder_updates(3) == 10
    assert "fell from 0.900 to 0.800" in resumed.end_epoch({"mi": 0.8})
    assert other.end_epoch({"mi": 0.8}) is None


def test_every_step_has_the_kl_weight_of_its_update_and_the_objective_prepares_once(eager, monkeypatch):
    """The inner steps' loss is the outer one's: for wae_rnf and ivae, too, whose networks are trained first."""
    step, told = eager.update._step, []

    def noting(optimizers, batch, kl_weight, *noise):
        told.append(("step", kl_weight))
        return step(optimizers, batch, kl_weight, *noise)

    monkeypatch.setattr(eager.update, "_step", noting)
    monkeypatch.setattr(eager.objective, "before_update", lambda batch, update: told.append((batch, update)))
    batch = next(iter(eager.loader.epoch(0)))
    eager.update(batch, 5, 0.3)
    assert told[0] == (batch, 5)
    assert len(told) > 16 and set(told[1:]) == {("step", 0.3)}


@pytest.mark.parametrize(("update", "epoch"), [(0, 0), (7, 0), (8, 1), (23, 2)])
def test_inner_batches_are_of_the_update_s_own_epoch(eager, update, epoch):
    """With 8 batches an epoch; every epoch has others."""
    batches = [{tuple(numbers) for numbers in eager.batches.epoch(number)} for number in range(3)]
    drawn = eager.loader.random_batches(update, np.random.default_rng(0))
    read = {tuple(next(drawn).numbers) for _ in range(40)}
    assert read <= batches[epoch] and all(read - other for other in batches if other is not batches[epoch])


def test_the_history_has_the_rate_of_the_decoder(make_trainer, tmp_path):
    overrides = ("training.epochs=1", "training.encoder_rate=0.1")
    for scheme in ("joint", "aggressive"):
        (record,) = make_trainer(tmp_path / scheme, *overrides, f"training.scheme={scheme}").train()
        assert record["lr"] == 0.5
