"""Callbacks of SeqVAETrainer; KLAnnealingCallback in transformers.Trainer, and the documentation's example of it."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from modeling_seqvae import SeqVAEForTextModeling
from modeling_seqvae.data.batching import collate
from modeling_seqvae.training.callbacks import Callback, KLAnnealingCallback
from modeling_seqvae.training.run_directory import read_history
from modeling_seqvae.training.specs import TrainingSpec
from modeling_seqvae.training.trainer import SeqVAETrainer

SENTENCES = [{"input_ids": [1, *range(4, 5 + index % 7), 2]} for index in range(24)]
SPEC = TrainingSpec(anneal_epochs=2)


@pytest.fixture
def model(make_model) -> SeqVAEForTextModeling:
    """Notes the KL weight of every loss in `weights`, by mode."""
    model = make_model()
    model.weights = {True: [], False: []}
    model.register_forward_pre_hook(lambda module, inputs: module.weights[module.training].append(module.kl_weight))
    return model


def trainer(model: Any, folder: Path, spec: TrainingSpec | None = SPEC, **arguments: Any) -> Trainer:
    settings = {
        "per_device_train_batch_size": 4, "num_train_epochs": 3, "learning_rate": 0.1, "optim": "sgd",
        "save_strategy": "no", "use_cpu": True, "report_to": [], "disable_tqdm": True, "dataloader_pin_memory": False,
    }  # fmt: skip
    return Trainer(
        model=model,
        args=TrainingArguments(str(folder), **{**settings, **arguments}),
        train_dataset=SENTENCES,
        eval_dataset=SENTENCES[:8],
        data_collator=lambda rows: collate(rows, pad_token_id=0),
        callbacks=[KLAnnealingCallback(spec)],
    )


def rise(updates: int, annealing: int) -> list[float]:
    return [min(1.0, 0.1 + 0.9 * update / annealing) for update in range(updates)]


def test_every_update_has_the_schedules_weight(model, tmp_path):
    trainer(model, tmp_path).train()  # 6 updates an epoch
    assert model.weights[True] == pytest.approx(rise(18, annealing=12))
    assert model.kl_weight == 1.0


def test_all_batches_of_an_accumulated_update_have_one_weight(model, tmp_path):
    trainer(model, tmp_path, gradient_accumulation_steps=3).train()
    assert model.weights[True] == pytest.approx([weight for weight in rise(6, annealing=4) for _ in range(3)])


@pytest.mark.parametrize("strategy", [{"eval_strategy": "epoch"}, {"eval_strategy": "steps", "eval_steps": 4}])
def test_evaluation_is_at_weight_one(model, tmp_path, strategy):
    trainer(model, tmp_path, eval_on_start=True, **strategy).train()
    assert len(model.weights[False]) >= 4
    assert set(model.weights[False]) == {1.0}


def test_other_schedules(model, tmp_path):
    trainer(model, tmp_path, TrainingSpec(kl_schedule="cyclical", cycle_epochs=1, kl_stop=0.5)).train()
    assert model.weights[True] == pytest.approx([0, 1 / 6, 1 / 3, 0.5, 0.5, 0.5] * 3)


def test_the_papers_schedule_is_the_default(model, tmp_path):
    trainer(model, tmp_path, None, num_train_epochs=1).train()
    assert model.weights[True] == pytest.approx(rise(6, annealing=60))


def test_a_resumed_run_goes_on_in_the_schedule(model, make_model, tmp_path):
    trainer(model, tmp_path, save_strategy="steps", save_steps=8).train()
    again = make_model()
    again.weights = []
    again.register_forward_pre_hook(lambda module, inputs: module.weights.append(module.kl_weight))
    trainer(again, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert again.weights == pytest.approx(rise(18, annealing=12)[8:])


def test_the_documentations_example_runs(tiny, tmp_path, monkeypatch):
    text = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text("utf-8")
    (example,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "KLAnnealingCallback" in block)
    corpus, preset = str(tiny / "corpus.yaml"), str(tiny / "preset.yaml")
    small = example.replace('"max_pool", "demo"', f'"max_pool", {corpus!r}, {preset!r}')
    assert small != example
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(small, "docs/training.md", "exec"), names)
    assert names["trainer"].state.global_step == 3 * 8
    assert len([record for record in names["trainer"].state.log_history if "eval_loss" in record]) == 3
    SeqVAEForTextModeling.from_pretrained(tmp_path / "run" / "best")
    assert all(torch.isfinite(parameter).all() for parameter in names["model"].parameters())


class Noting(Callback):
    """Notes what it is called with, and what is on the disk then."""

    def __init__(self, stop_after: int | None = None):
        self.calls: list[tuple[str, int]] = []
        self.stop_after = stop_after

    def on_best(self, trainer: SeqVAETrainer, record: dict[str, Any]) -> None:
        assert (trainer.output_dir / "best" / "model.safetensors").is_file()
        self.calls.append(("best", record["epoch"]))

    def on_epoch_end(self, trainer: SeqVAETrainer, record: dict[str, Any]) -> None:
        assert read_history(trainer.output_dir)[-1] == record == trainer.history[-1]
        self.calls.append(("epoch", record["epoch"]))
        if record["epoch"] == self.stop_after:
            trainer.stop()


def test_callbacks_are_told_of_every_epoch_and_every_best(make_trainer, tmp_path):
    noting = Noting()
    trainer = make_trainer(tmp_path)
    trainer.callbacks.append(noting)
    bounds = [record["bound"] for record in trainer.train()]
    expected = []
    for epoch, bound in enumerate(bounds, start=1):
        expected += [("best", epoch)] * (bound == min(bounds[:epoch])) + [("epoch", epoch)]
    assert noting.calls == expected


def test_a_run_that_a_callback_stops_is_the_run_that_went_on(make_trainer, tmp_path, weights_of):
    whole = make_trainer(tmp_path / "whole")
    whole.train()
    stopped = make_trainer(tmp_path / "stopped")
    stopped.callbacks.append(Noting(stop_after=1))
    assert [record["epoch"] for record in stopped.train()] == [1]
    resumed = make_trainer(tmp_path / "stopped")
    assert [record["bound"] for record in resumed.train(resume=True)] == [record["bound"] for record in whole.history]
    assert all(torch.equal(weights_of(resumed)[name], weight) for name, weight in weights_of(whole).items())


def test_what_a_callback_raises_loses_nothing(make_trainer, tmp_path):
    class Failing(Callback):
        def on_epoch_end(self, trainer: SeqVAETrainer, record: dict[str, Any]) -> None:
            raise RuntimeError("of its own")

    trainer = make_trainer(tmp_path)
    trainer.callbacks.append(Failing())
    with pytest.raises(RuntimeError, match="of its own"):
        trainer.train()
    resumed = make_trainer(tmp_path)
    assert len(resumed.train(resume=True)) == resumed.spec.epochs
