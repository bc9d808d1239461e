from typing import Any

import pytest

from modeling_seqvae.training.schedules import LR_SCHEDULES, SCHEDULES, Plateau
from modeling_seqvae.training.specs import TrainingSpec


def weights(spec: TrainingSpec, epochs: tuple[float, ...]) -> list[float]:
    return [spec.kl_weight(epoch) for epoch in epochs]


def test_linear_rises_with_every_update_and_then_stays():
    spec = TrainingSpec(kl_schedule="linear", kl_start=0.1, kl_stop=1.0, anneal_epochs=10)
    updates_an_epoch = 4
    rise = [spec.kl_weight(update / updates_an_epoch) for update in range(41)]
    assert rise == pytest.approx([0.1 + 0.9 * update / 40 for update in range(41)])
    assert rise[40] == 1.0
    assert weights(spec, (10.25, 11, 100)) == [1.0] * 3


def test_beta_vae_stops_at_its_beta():
    spec = TrainingSpec(kl_stop=0.5, anneal_epochs=10)
    assert weights(spec, (0, 5, 10, 50)) == pytest.approx([0.1, 0.3, 0.5, 0.5])


@pytest.mark.parametrize("stop", [1.0, 0.5])
def test_cyclical_rises_from_zero_in_the_first_half_of_each_of_four_cycles(stop):
    spec = TrainingSpec(kl_schedule="cyclical", kl_start=0.7, kl_stop=stop, cycle_epochs=10)
    for cycle in range(4):
        start = 10 * cycle
        within = weights(spec, (start, start + 1.25, start + 2.5, start + 5, start + 7.5, start + 9.99))
        assert within == pytest.approx([0, stop / 4, stop / 2, stop, stop, stop])
    assert weights(spec, (40, 40.5, 45, 99)) == [stop] * 4


def test_cyclical_does_not_depend_on_the_annealing_epochs_nor_linear_on_the_cycles():
    for schedule, other in (("cyclical", "anneal_epochs"), ("linear", "cycle_epochs")):
        here, there = (TrainingSpec(kl_schedule=schedule, **{other: epochs}) for epochs in (3, 7))
        assert all(here.kl_weight(epoch / 4) == there.kl_weight(epoch / 4) for epoch in range(200))


def test_constant_never_anneals():
    assert weights(TrainingSpec(kl_schedule="constant", kl_stop=0.8), (0, 1, 50)) == [0.8] * 3


def test_no_annealing_epochs_mean_the_last_weight_at_once():
    assert weights(TrainingSpec(anneal_epochs=0), (0, 1, 50)) == [1.0] * 3


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_stays_within_its_bounds_and_ends_at_stop(name):
    spec = TrainingSpec(kl_schedule=name, kl_start=0.2, kl_stop=0.9)
    assert all(0 <= spec.kl_weight(epoch / 7) <= 0.9 for epoch in range(700))
    assert spec.kl_weight(100) == pytest.approx(0.9)


HALVINGS: dict[str, dict[str, Any]] = {
    "two epochs in a row": {"begin": 1, "bounds": [10, 11, 12, 13], "at": [3]},
    "not one, nor two apart": {"begin": 1, "bounds": [10, 11, 9, 10, 8, 9, 7], "at": []},
    "an equal bound is no improvement": {"begin": 1, "bounds": [10, 10, 10], "at": [3]},
    # At epoch 3 the bound 12 becomes the new start, so that 11 improves although 10 is the best of all.
    "the new start": {"begin": 1, "bounds": [10, 11, 12, 11, 11.5, 10.5, 10.6, 10.7], "at": [3, 8]},
    "again and again": {"begin": 1, "bounds": [10, 11, 12, 13, 14, 15, 16], "at": [3, 5, 7]},
    "never before it begins": {"begin": 5, "bounds": [10, 11, 12, 13], "at": []},
    "at once when it begins": {"begin": 5, "bounds": [10, 11, 12, 13, 14, 15, 16], "at": [5, 7]},
    "one bad epoch when it begins": {"begin": 5, "bounds": [10, 9, 8, 7, 7.5, 7.6], "at": [6]},
    "three epochs of patience": {"begin": 1, "patience": 3, "bounds": [10, 11, 12, 13, 14], "at": [4]},
}


@pytest.mark.parametrize("name", HALVINGS)
def test_plateau_halves_after(name):
    case = HALVINGS[name]
    plateau = Plateau(case["begin"], case.get("patience", 2))
    halved = [epoch for epoch, bound in enumerate(case["bounds"], 1) if plateau.halves_after(epoch, bound)]
    assert halved == case["at"]
    assert plateau.halvings == len(case["at"])


def test_the_plateau_rule_begins_anew_when_the_cycles_are_over():
    """Epochs of the cycles are neither compared with nor counted: from then on it is the rule of a new run."""
    later = [10.0, 11, 12, 11, 12, 13]
    for cycle_epochs, cycles in ((2, 8), (2.6, 10), (0.25, 1)):  # the eleventh epoch ends after 4 cycles of 2.6
        spec = TrainingSpec(kl_schedule="cyclical", cycle_epochs=cycle_epochs, plateau_from=1)
        plateau, anew = spec.plateau(), Plateau(1, 2)
        assert not any(plateau.halves_after(epoch, 5.0) for epoch in range(1, cycles + 1))  # the lowest of all
        found = [plateau.halves_after(cycles + epoch, bound) for epoch, bound in enumerate(later, 1)]
        assert found == [anew.halves_after(epoch, bound) for epoch, bound in enumerate(later, 1)]
        assert found.index(True) == 2


def test_other_schedules_let_the_plateau_rule_count_from_the_first_epoch():
    for name in ("linear", "constant"):
        assert TrainingSpec(kl_schedule=name, cycle_epochs=50).plateau() == Plateau(15, 2)


def test_a_schedule_says_when_annealing_is_over():
    """From then on the weight stays; a moment before, it is still to change."""
    fields = {"kl_start": 0.1, "anneal_epochs": 2.5, "cycle_epochs": 1.5}
    ends = {name: TrainingSpec(kl_schedule=name, **fields).annealing_epochs for name in SCHEDULES}
    assert ends == {"linear": 2.5, "cyclical": 6.0, "constant": 0.0}
    for name, end in ends.items():
        spec = TrainingSpec(kl_schedule=name, **fields)
        assert {spec.kl_weight(end + epoch / 8) for epoch in range(100)} == {1.0}, name


@pytest.mark.parametrize("name", LR_SCHEDULES)
def test_a_learning_rate_rises_to_its_full_value_and_only_falls_from_there(name):
    spec = TrainingSpec(lr_schedule=name, warmup_epochs=2, epochs=10)
    assert [spec.lr_factor(epoch) for epoch in (0, 0.5, 1, 2)] == pytest.approx([0, 0.25, 0.5, 1])
    falling = [spec.lr_factor(epoch / 4) for epoch in range(8, 41)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == pytest.approx(1 if name == "plateau" else 0)


def test_decays_at_their_middle_and_quarter():
    linear, cosine = (TrainingSpec(lr_schedule=name, epochs=8) for name in ("linear", "cosine"))
    assert [linear.lr_factor(2), linear.lr_factor(4)] == pytest.approx([0.75, 0.5])
    assert [cosine.lr_factor(2), cosine.lr_factor(4)] == pytest.approx([(1 + 2**-0.5) / 2, 0.5])


def test_only_the_papers_rule_halves():
    spec = TrainingSpec(lr_schedule="cosine", plateau_from=1, plateau_patience=1, epochs=5)
    plateau = spec.plateau()
    assert not any(plateau.halves_after(epoch, 10.0) for epoch in range(1, 6))


def test_a_warmup_as_long_as_the_run_is_refused():
    with pytest.raises(ValueError, match=r"warmup_epochs \(3\) must be fewer than epochs \(3\)"):
        TrainingSpec(warmup_epochs=3, epochs=3)


@pytest.mark.parametrize("batches", [50, 100])
@pytest.mark.parametrize("share", range(1, 26))
def test_every_cycle_begins_at_zero(share, batches):
    """Lengths that are no binary fractions: 12 epochs of 50 updates in cycles of 13% are 78 updates each."""
    spec = TrainingSpec(kl_schedule="cyclical", cycle_epochs=0.12 * share, epochs=12)
    for begin in range(0, 4 * 12 * share * batches // 100, 12 * share * batches // 100):
        if 12 * share * batches % 100 == 0:
            assert spec.kl_weight(begin / batches) == pytest.approx(0, abs=1e-6), begin


def test_cyclical_weights_at_named_updates():
    """Eight updates an epoch, cycles of ten epochs: each cycle is 80 updates, of which the first 40 rise."""
    spec = TrainingSpec(kl_schedule="cyclical", cycle_epochs=10)
    named = {0: 0, 1: 1 / 40, 20: 0.5, 39: 39 / 40, 40: 1, 79: 1, 80: 0, 100: 0.5, 159: 1, 240: 0, 319: 1, 320: 1}
    assert {update: spec.kl_weight(update / 8) for update in named} == pytest.approx(named)


def test_the_weight_of_wae_rnf_rises_from_nothing_to_0_8():
    spec = TrainingSpec(kl_start=0, kl_stop=0.8, anneal_epochs=10)
    assert weights(spec, (0, 2.5, 5, 10, 40)) == pytest.approx([0, 0.2, 0.4, 0.8, 0.8])
