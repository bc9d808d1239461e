"""A plain transformers.Trainer trains the model: its loss, its accumulation, its callbacks, its checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer, TrainerCallback, TrainingArguments

from modeling_seqvae import SeqVAEForTextModeling

LEARNING_RATE = 0.1


class Sentences(torch.utils.data.Dataset):
    """32 sentences of 0 to 7 words. Each has a z of its own where the draw must not matter."""

    def __init__(self, with_latents: bool = False, count: int = 32):
        generator = torch.Generator().manual_seed(0)
        words = [torch.randint(4, 20, (index % 8,), generator=generator).tolist() for index in range(count)]
        self.rows: list[dict[str, Any]] = [{"input_ids": [1, *row, 2], "index": i} for i, row in enumerate(words)]
        if with_latents:
            for row in self.rows:
                row["latents"] = torch.randn(3, generator=generator)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    batch = {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=0),
        "attention_mask": pad_sequence([torch.ones_like(x) for x in ids], batch_first=True, padding_value=0),
        "labels": pad_sequence(ids, batch_first=True, padding_value=-100),
    }
    if "latents" in rows[0]:
        batch["latents"] = torch.stack([row["latents"] for row in rows])
    return batch


def trainer(model, output_dir: Path, *, with_latents: bool = False, callbacks: Any = None, **arguments: Any) -> Trainer:
    settings = {
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 5,
        "max_steps": 4,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return Trainer(
        model=model,
        args=TrainingArguments(str(output_dir), **{**settings, **arguments}),
        train_dataset=Sentences(with_latents),
        eval_dataset=Sentences(count=12),
        data_collator=collate,
        callbacks=callbacks,
    )


@pytest.fixture
def model(make_model) -> SeqVAEForTextModeling:
    return make_model(embedding_dropout=0, output_dropout=0)


def weights(model) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_four_accumulated_batches_of_8_give_the_gradient_of_one_of_32(model, tmp_path) -> None:
    batch = collate(Sentences(with_latents=True).rows)
    before = weights(model)
    gradients = torch.autograd.grad(model(**batch).loss, list(model.parameters()))
    trainer(
        model, tmp_path, with_latents=True, max_steps=1, gradient_accumulation_steps=4, per_device_train_batch_size=8
    ).train()
    for (name, after), gradient in zip(model.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(
            after, before[name] - LEARNING_RATE * gradient, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_the_logged_loss_is_nats_per_sentence_however_it_is_accumulated(model, tmp_path) -> None:
    expected = model(**collate(Sentences(with_latents=True).rows)).loss.item()
    run = trainer(model, tmp_path, with_latents=True, max_steps=1, gradient_accumulation_steps=4)
    run.train()
    assert run.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-3)


def test_the_evaluation_loss_is_the_mean_over_sentences(model, tmp_path) -> None:
    expected = model(**collate(Sentences(count=12).rows)).loss.item()
    assert trainer(model, tmp_path).evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_training_lowers_the_evaluation_loss(model, tmp_path) -> None:
    run = trainer(model, tmp_path, max_steps=30, optim="adamw_torch", eval_strategy="steps", eval_steps=15)
    run.train()
    losses = [record["eval_loss"] for record in run.state.log_history if "eval_loss" in record]
    assert losses[1] < losses[0] < 0.95 * trainer(make_again(model), tmp_path).evaluate()["eval_loss"]


def make_again(model) -> SeqVAEForTextModeling:
    """The model as it was before training."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return SeqVAEForTextModeling(model.config)


def test_predictions_are_logits_alone(model, tmp_path) -> None:
    result = trainer(model, tmp_path).predict(Sentences(count=12))
    assert result.predictions.shape == (12, 9, 20)
    assert result.label_ids.shape == (12, 9)


class RisingWeight(TrainerCallback):
    """The KL weight as a function of the step, set where the model looks for it."""

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **unused: Any) -> None:
        model.kl_weight = 0.1 * (1 + state.global_step)


def test_a_callback_sets_the_kl_weight(model, tmp_path) -> None:
    dataset = Sentences(with_latents=True)
    out = model(**collate(dataset.rows))
    run = trainer(
        model, tmp_path, with_latents=True, callbacks=[RisingWeight()], max_steps=3, learning_rate=0.0,
        per_device_train_batch_size=32,
    )  # fmt: skip
    run.train()
    losses = [record["loss"] for record in run.state.log_history if "loss" in record]
    expected = [(out.reconstruction_loss + weight * out.kl).mean().item() for weight in (0.1, 0.2, 0.3)]
    assert losses == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("latent_size", [0, 3])
def test_bfloat16_training_runs(make_model, tmp_path, latent_size) -> None:
    run = trainer(make_model(latent_size=latent_size), tmp_path, max_steps=2, bf16=True)
    assert 0 < run.train().training_loss < 100
    assert 0 < run.evaluate()["eval_loss"] < 100


def test_a_run_goes_on_from_its_checkpoint(model, tmp_path) -> None:
    options = {"with_latents": True, "save_strategy": "steps", "save_steps": 2, "optim": "adamw_torch"}
    trainer(model, tmp_path, **options).train()
    resumed = trainer(make_again(model), tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for (name, after), expected in zip(resumed.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(after, expected, msg=lambda text, n=name: f"{n}: {text}")


def test_the_saved_model_loads_as_it_was(model, tmp_path) -> None:
    run = trainer(model, tmp_path)
    run.train()
    run.save_model(tmp_path / "model")
    loaded = SeqVAEForTextModeling.from_pretrained(tmp_path / "model")
    batch = collate(Sentences().rows)
    assert torch.equal(loaded(**batch).loss, model.eval()(**batch).loss)
