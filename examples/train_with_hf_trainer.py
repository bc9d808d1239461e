"""Training with transformers' own Trainer: its arguments, callbacks and checkpoints, and the paper's KL annealing.

python examples/train_with_hf_trainer.py RUN [--method max_pool] [--corpus demo] [--preset fast] \
    [--limit train=5000] [--set training.epochs=3 ...]

RUN/best is a checkpoint for SeqVAE.from_pretrained. This Trainer minimises -ELBO by AdamW. Methods with a pretraining,
another objective or another scheme, and presets for SGD, are refused; rates that fall, and the history and card of a
run, are left out. `seqvae train` has them all.
"""

import argparse

from transformers import Trainer, TrainingArguments

from modeling_seqvae import SeqVAE, SeqVAEForTextModeling
from modeling_seqvae.data.batching import collate, tokenise
from modeling_seqvae.training.callbacks import KLAnnealingCallback
from modeling_seqvae.training.recipe import resolve
from modeling_seqvae.training.run import read_corpus


def main() -> None:
    """Train, and write the best checkpoint with its tokenizer."""
    options = _options()
    limits = {split: int(count) for split, _, count in (limit.partition("=") for limit in options.limit)}
    recipe = resolve(options.method, options.corpus, options.preset, overrides=options.set, limits=limits)
    training = recipe.training
    if recipe.pretraining or (training.objective, training.scheme) != ("elbo", "joint"):
        raise SystemExit(
            f"{options.method} is not trained by -ELBO alone: seqvae train --method {options.method} does it"
        )
    if training.optimizer != "adam":
        raise SystemExit(
            f"the recipe's learning rate is one for {training.optimizer}: choose another preset, as --preset fast"
        )
    corpus, tokenizer = read_corpus(recipe, options.data_dir)
    train, validation = (tokenise(corpus.splits[name], tokenizer) for name in ("train", "validation"))
    model = SeqVAEForTextModeling(recipe.config(tokenizer))
    model.generation_config.max_length = max(train["length"])  # where sentences that do not end are cut
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            options.run,
            num_train_epochs=training.epochs,
            per_device_train_batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            max_grad_norm=training.max_grad_norm,
            lr_scheduler_type="constant",
            train_sampling_strategy="group_by_length",  # by the column `length`
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            report_to="none",
            seed=training.seed,
        ),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=lambda sentences: collate(sentences, tokenizer.pad_token_id),
        callbacks=[KLAnnealingCallback(training)],
    )
    trainer.train()
    loss = trainer.evaluate()["eval_loss"]
    vae = SeqVAE(trainer.model, tokenizer)
    vae.save_pretrained(f"{options.run}/best")
    print(f"loss on the validation set, with z at the posterior's mean: {loss:.2f} nats per sentence")
    print(f"written from the prior: {vae.sample(1, seed=0)[0]}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="folder for checkpoints")
    parser.add_argument("--method", default="max_pool")
    parser.add_argument("--corpus", default="demo")
    parser.add_argument("--preset", help="sizes and rates; default: the corpus's own")
    parser.add_argument("--data-dir")
    parser.add_argument("--limit", action="append", default=[], help="only the first documents: train=5000")
    parser.add_argument("--set", action="append", default=[], help="one field of the recipe: training.epochs=3")
    return parser.parse_args()


if __name__ == "__main__":
    main()
