"""Two processes are one that computes each batch in two parts."""

import importlib.util
import json
import signal
import subprocess
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modeling_seqvae.training import schemes

TWO_PARTS = "training.accumulation_steps=2"


@pytest.fixture(scope="module")
def worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("worker", Path(__file__).with_name("worker.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def together(worker, tiny, tmp_path_factory, environment, torchrun) -> Path:
    """What two processes left: every test here looks at one thing in it."""
    out = tmp_path_factory.mktemp("together")
    begun = worker.make(tiny, out / "alone-then-together", *worker.PLATEAU, TWO_PARTS)
    begun._end_epoch = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    begun.signals.number = signal.SIGTERM  # asks for a save after the first update
    with pytest.raises(SystemExit):
        begun.train()
    arguments = [str(Path(worker.__file__)), str(tiny), str(out)]
    done = subprocess.run([*torchrun(), *arguments], env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return out


def assert_close(run: Path, reference: Path, history_of, halved: bool = True) -> None:
    """The same history and weights up to the order of additions in float32."""
    found, expected = history_of(run), history_of(reference)
    assert not halved or len({record["lr"] for record in expected}) > 1, "no halving, so that little is compared"
    for record, other in zip(found, expected, strict=True):
        assert {name for name in record if record[name] is None} == {name for name in other if other[name] is None}
        told = [name for name in other if other[name] is not None]
        assert [record[name] for name in told] == pytest.approx([other[name] for name in told], rel=1e-4, abs=1e-4)
    for name in ("best", "last"):
        weights, others = (load_file(place / name / "model.safetensors") for place in (run, reference))
        assert weights.keys() == others.keys()
        for key, tensor in weights.items():
            torch.testing.assert_close(tensor, others[key], rtol=1e-3, atol=1e-5)
    assert sorted(path.name for path in run.iterdir()) == [".lock", "best", "history.jsonl", "last", "recipe.yaml"]


@pytest.fixture(scope="module")
def dropout_alone(worker, tiny, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("dropout") / "run"
    worker.make(tiny, run, *worker.PLATEAU, TWO_PARTS).train()
    return run


def test_there_were_two_of_them(together):
    for name in ("dropout", "alone-then-together", "given noise", "language model"):
        assert len(list((together / name / "last").glob("random_states_*.pkl"))) == 2
        assert json.loads((together / name / "last" / "progress.json").read_text())["shards"] >= 2


def test_dropout_and_noise_are_those_of_one_process_with_two_parts(together, dropout_alone, history_of):
    assert_close(together / "dropout", dropout_alone, history_of)


def test_one_part_or_two_are_not_the_same_dropout(worker, tiny, tmp_path, dropout_alone, history_of):
    worker.make(tiny, tmp_path, *worker.PLATEAU).train()
    assert history_of(tmp_path)[0]["bound"] != pytest.approx(history_of(dropout_alone)[0]["bound"], rel=1e-5)


def test_with_given_noise_and_no_dropout_two_processes_are_one(worker, tiny, together, tmp_path, history_of):
    trainer = worker.make(tiny, tmp_path, *worker.PLATEAU, *worker.NOISELESS)
    with worker.noise_of_the_sentence(trainer):
        trainer.train()
    assert_close(together / "given noise", tmp_path, history_of)


def test_normalised_means_are_normalised_over_all_processes(worker, tiny, together, tmp_path, history_of):
    trainer = worker.make(tiny, tmp_path, *worker.SHORT, *worker.NOISELESS, method="bn_vae")
    with worker.noise_of_the_sentence(trainer):
        trainer.train()
    assert_close(together / "normalised", tmp_path, history_of, halved=False)


def test_both_stages_of_a_run_are_those_of_one_process_with_two_parts(worker, tiny, together, tmp_path, history_of):
    recipe = worker.resolve(
        "unigram_pretraining", str(tiny / "corpus.yaml"), str(tiny / "preset.yaml"), [*worker.STAGES, TWO_PARTS]
    )
    worker.run.train(recipe, tmp_path, progress=False)
    for name in ("bound", "kl", "pretraining_updates", "encoder_updates"):
        found, expected = ([record[name] for record in history_of(place)] for place in (together / "stages", tmp_path))
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert_close(together / "stages" / "pretraining", tmp_path / "pretraining", history_of, halved=False)


def test_a_language_model_in_four_shards_is_the_one_in_one(worker, tiny, together, tmp_path, history_of):
    worker.make(tiny, tmp_path, *worker.PLATEAU, *worker.NOISELESS, method="lstm_lm").train()
    assert_close(together / "language model", tmp_path, history_of)


@pytest.mark.parametrize("method", ["aggressive", "wae_rnf", "ivae", "free_bits", "minimum_rate", "sa_vae"])
def test_methods_with_a_state_of_their_own_are_those_of_one_process_with_two_parts(
    worker, tiny, together, tmp_path, history_of, method, monkeypatch
):
    monkeypatch.setattr(schemes, "MOST_INNER_UPDATES", 16)
    worker.make(tiny, tmp_path, *worker.SHORT, TWO_PARTS, method=method).train()
    assert_close(together / method, tmp_path, history_of, halved=False)


def test_a_run_begun_by_two_processes_goes_on_in_one_with_two_parts(worker, tiny, together, dropout_alone, history_of):
    """A signal that reached one of them stopped both, at the same update."""
    for rank in range(2):
        assert json.loads((together / f"interrupted-{rank}.json").read_text()) == [128 + signal.SIGTERM, 10]
    run = together / "together-then-alone"
    with pytest.raises(ValueError, match=r"2 shards, .* to 1: launch 2 processes, or --set "):
        worker.make(tiny, run, *worker.PLATEAU).train(resume=True)
    worker.make(tiny, run, *worker.PLATEAU, TWO_PARTS).train(resume=True)
    assert_close(run, dropout_alone, history_of)


def test_a_run_begun_by_one_with_two_parts_goes_on_in_two_processes(together, dropout_alone, history_of):
    assert_close(together / "alone-then-together", dropout_alone, history_of)


def test_every_figure_of_an_evaluation_is_one_process_s(worker, together):
    expected = [worker.evaluations(count) for count in worker.COUNTS]
    for rank in range(2):
        found = json.loads((together / f"evaluations-{rank}.json").read_text())
        for one, other, count in zip(found, expected, worker.COUNTS, strict=True):
            assert one.keys() == other.keys()
            assert one["number"] == list(range(count))
            for name, value in other.items():
                if value is None:
                    assert one[name] is None, name
                else:
                    np.testing.assert_allclose(one[name], value, rtol=0, atol=1e-9, err_msg=name)


def test_the_launcher_ended_by_sigterm_leaves_a_state_to_go_on_from(
    worker, tiny, tmp_path, environment, torchrun, command, dropout_alone, history_of
):
    """As a cluster does it: the launcher gets the signal and passes it on."""
    run = tmp_path / "run"
    slow = [*worker.PLATEAU, "training.save_minutes=0.0000001"]
    process = subprocess.Popen(
        [*torchrun(), *command(run, *slow)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (run / "last").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.terminate()
    process.communicate()
    assert process.returncode != 0
    state = json.loads((run / "last" / "progress.json").read_text())
    assert state["shards"] == 2 and state["epoch"] < 5
    worker.make(tiny, run, *slow, TWO_PARTS).train(resume=True)
    assert_close(run, dropout_alone, history_of)
