"""What is called during a training: by SeqVAETrainer, and by transformers' own Trainer."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..modeling_seqvae import SeqVAEForTextModeling
from .specs import TrainingSpec


class Callback:
    """What SeqVAETrainer calls during a run, on the main process; override what you need.

    `trainer` is the SeqVAETrainer, `record` the line of history.jsonl that has just been written. `trainer.stop()` ends
    the run when it is saved: `train(resume=True)` continues it. What a callback raises ends the run, too, and loses
    nothing.
    """

    def on_epoch_end(self, trainer: Any, record: dict[str, Any]) -> None:
        """After each epoch: evaluated, and saved in last/."""

    def on_best(self, trainer: Any, record: dict[str, Any]) -> None:
        """After an epoch that was the best so far, when best/ holds its weights; before `on_epoch_end`."""


class KLAnnealingCallback(TrainerCallback):
    """Sets `model.kl_weight` for each update to what a recipe's schedule says, and back to 1 after it.

    An evaluation between updates thus reports the loss at weight 1, which is comparable from epoch to epoch and what
    `load_best_model_at_end` should choose by. The schedule counts the Trainer's epochs; a resumed run goes on in it.
    """

    def __init__(self, training: TrainingSpec | None = None):
        self.training = training or TrainingSpec()

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: SeqVAEForTextModeling,
        **unused: Any,
    ) -> None:
        model.kl_weight = self.training.kl_weight(state.epoch)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: SeqVAEForTextModeling,
        **unused: Any,
    ) -> None:
        model.kl_weight = 1.0
