"""A plain transformers.Trainer trains the model: its loss, its accumulation, its callbacks, its checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainerCallback, TrainingArguments

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


def trainer(
    model,
    output_dir: Path,
    trainer_class: type[Trainer] = Trainer,
    *,
    with_latents: bool = False,
    callbacks: Any = None,
    compute_loss_func: Any = None,
    **arguments: Any,
) -> Trainer:
    arguments_class = Seq2SeqTrainingArguments if trainer_class is Seq2SeqTrainer else TrainingArguments
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
    return trainer_class(
        model=model,
        args=arguments_class(str(output_dir), **{**settings, **arguments}),
        train_dataset=Sentences(with_latents),
        eval_dataset=Sentences(count=12),
        data_collator=collate,
        callbacks=callbacks,
        compute_loss_func=compute_loss_func,
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


@pytest.mark.parametrize("trainer_class", [Trainer, Seq2SeqTrainer])
@pytest.mark.parametrize("step", ["train", "evaluate"])
def test_label_smoothing_is_refused_before_a_weight_changes(model, tmp_path, trainer_class, step) -> None:
    """It would compare the prediction of the next word with the last one, and leave out the KL."""
    before = weights(model)
    generate = {"predict_with_generate": True} if trainer_class is Seq2SeqTrainer else {}
    run = trainer(model, tmp_path, trainer_class, label_smoothing_factor=0.1, bf16=True, **generate)
    with pytest.raises(ValueError, match=r"label_smoothing_factor must be 0 for a SeqVAE.*compute_loss_func"):
        getattr(run, step)()
    assert all(torch.equal(after, before[name]) for name, after in model.named_parameters())


def smoothed(outputs: Any, labels: torch.Tensor, smoothing: float, kl_weight: float) -> torch.Tensor:
    """-ELBO with a share of each target's weight spread over the vocabulary, nats per sentence."""
    reconstruction = torch.nn.functional.cross_entropy(
        outputs["logits"][:, :-1].transpose(1, 2), labels[:, 1:], label_smoothing=smoothing, reduction="none"
    )
    return (reconstruction.sum(1) + kl_weight * outputs["kl"]).mean()


def test_a_loss_function_of_ones_own_gets_logits_kl_and_labels(model, tmp_path) -> None:
    batch = collate(Sentences(with_latents=True).rows)
    out = model(**batch)
    torch.testing.assert_close(smoothed(out, batch["labels"], 0.0, 1.0), out.loss)
    run = trainer(
        model, tmp_path, with_latents=True, max_steps=1, per_device_train_batch_size=32,
        compute_loss_func=lambda outputs, labels, num_items_in_batch: smoothed(outputs, labels, 0.1, 9.0),
    )  # fmt: skip
    run.train()
    expected = smoothed(out, batch["labels"], 0.1, 9.0).item()
    assert run.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-3)
    assert expected > out.loss.item() + 0.5


def test_a_seq2seq_trainer_evaluates_what_the_model_writes(model, tmp_path) -> None:
    dataset = Sentences(count=10)  # two full batches: it does not weigh a shorter one
    run = trainer(model, tmp_path, Seq2SeqTrainer, predict_with_generate=True, generation_max_length=9)
    result = run.predict(dataset)
    batch = collate(dataset.rows)
    written = model.reconstruct(batch["input_ids"], batch["attention_mask"], max_length=9)
    assert result.predictions[:, : written.shape[1]].tolist() == written.tolist()
    assert result.metrics["test_loss"] == pytest.approx(model(**batch).loss.item(), rel=1e-5)


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
