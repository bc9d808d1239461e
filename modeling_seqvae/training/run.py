"""From a recipe to a trained run: corpus, tokenizer, model, trainer."""

from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import PreTrainedTokenizerBase

from ..data.corpora import Corpus, load_corpus
from ..modeling_seqvae import SeqVAEForTextModeling
from ..tokenization import train_tokenizer, unknown_share
from .recipe import Recipe
from .trainer import SeqVAETrainer


def read_corpus(recipe: Recipe, data_dir: str | Path | None) -> tuple[Corpus, PreTrainedTokenizerBase]:
    """The corpus of a recipe and the tokenizer trained from it; the same texts give the same tokenizer."""
    corpus = load_corpus(recipe.corpus, data_dir=data_dir, limits=recipe.limits)
    return corpus, train_tokenizer(corpus.splits["train"]["text"], **corpus.spec.tokenizer_settings())


def describe(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> str:
    """What was read, and the share of unknown words in each split."""
    unknown = ", ".join(f"{name} {unknown_share(tokenizer, rows['text']):.2%}" for name, rows in corpus.splits.items())
    return f"{corpus.report}\n{corpus.name} vocabulary: {len(tokenizer):,} tokens; unknown words: {unknown}"


def train(
    recipe: Recipe,
    output_dir: str | Path,
    data_dir: str | Path | None = None,
    resume: bool = False,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> SeqVAETrainer:
    """Train a recipe's model into `output_dir`, or continue an interrupted run there with `resume`.

    Raises what load_corpus, SeqVAETrainer and its `train` raise.
    """
    corpus, tokenizer = read_corpus(recipe, data_dir)
    set_seed(recipe.training.seed)
    model = SeqVAEForTextModeling(recipe.config(tokenizer))
    splits = corpus.splits
    trainer = SeqVAETrainer(
        model, tokenizer, recipe, splits["train"], splits["validation"], output_dir, accelerator, progress
    )
    if trainer.show:
        print(describe(corpus, tokenizer))
    trainer.train(resume=resume)
    return trainer
