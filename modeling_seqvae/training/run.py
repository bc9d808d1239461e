"""From a recipe to a trained run."""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..data.batching import sentence_lengths, token_counts, tokenise, unknown_share_of
from ..data.caching import quiet_libraries
from ..data.corpora import Corpus, load_corpus
from ..data.corpus_spec import checksum_of_files, files_are_there, moved_to, paths_of
from ..data.files import write_json
from ..data.launch import launched
from ..data.subwords import WORDS, prepare_tokenizer, require_control_tokens
from ..data.vocabulary import corpus_tokenizer
from ..modeling_seqvae import SeqVAEForTextModeling
from ..own_modules import import_parts
from .callbacks import Callback
from .checkpoint import best_checkpoint, kept_place, load_best, recipe_in
from .recipe import Recipe, differing, taken_over
from .run_directory import holds_run, read_history
from .trainer import SeqVAETrainer

FINISHED = "finished.json"
"""Written into a run's directory when its training has ended: its `documents` by split, `files`, and the processor."""
FILES = "files"
"""In FINISHED: the SHA-256 of the corpus's files as the run began; None for a corpus without files."""
LAST = "last"
PRETRAINING = "pretraining"
"""The folder of a run's pretraining, a run of its own."""


def read_corpus(recipe: Recipe, data_dir: str | Path | None) -> tuple[Corpus, PreTrainedTokenizerBase]:
    """The corpus of a recipe and its tokenizer; where it is trained here, the same texts give the same."""
    corpus = load_corpus(recipe.corpus, data_dir=data_dir, limits=recipe.limits)
    return corpus, corpus_tokenizer(corpus.spec, corpus.splits["train"])


def describe(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> str:
    """What was read, and the share of unknown words in each split, or the length of its texts in other tokens."""
    tokenised = {name: tokenise(rows, tokenizer) for name, rows in corpus.splits.items()}
    if corpus.spec.tokenizer != WORDS:
        means = {name: float(sentence_lengths(rows).mean()) - 2 for name, rows in tokenised.items()}
        lengths = ", ".join(f"{name} {mean:.1f}" for name, mean in means.items())
        known = f"{corpus.name} tokenizer {corpus.spec.tokenizer}: {len(tokenizer):,} tokens; tokens a text: {lengths}"
        return f"{corpus.report}\n{known}"
    shares = {name: unknown_share_of(rows) for name, rows in tokenised.items()}
    unknown = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
    return f"{corpus.report}\n{corpus.name} vocabulary: {len(tokenizer):,} tokens; unknown words: {unknown}"


def train(
    recipe: Recipe,
    output_dir: str | Path,
    data_dir: str | Path | None = None,
    resume: bool = False,
    accelerator: Accelerator | None = None,
    progress: bool = True,
    profile: bool = False,
    callbacks: Sequence[Callback] = (),
) -> SeqVAETrainer:
    """Train a recipe's model into `output_dir`, or continue an interrupted run there with `resume`.

    `data_dir` is where the corpus's files are; a run that is continued remembers it, and takes equal texts from
    anywhere. `profile` records a few updates; `callbacks` are those of SeqVAETrainer. At the end of the training the
    directory receives finished.json.

    Raises what load_corpus, SeqVAETrainer and its `train` raise.
    """
    import_parts(recipe.imports)  # a recipe from another process has not
    holds_run(Path(output_dir), recipe, resume)  # a mistake is told before the corpus is read
    if recipe.encoder_from and not (Path(output_dir) / LAST).is_dir():
        best_checkpoint(recipe.encoder_from)
    begun = recipe_in(Path(output_dir)) or recipe_in(Path(output_dir) / PRETRAINING) if resume else None
    recipe = _placed(recipe, data_dir, begun)
    files = checksum_of_files(recipe.corpus, recipe.data_dir)
    with nullcontext() if progress else quiet_libraries():
        corpus, tokenizer = read_corpus(recipe, recipe.data_dir)
    splits = corpus.splits
    asked, recipe = recipe, recipe.with_texts(splits).settled_on(splits["train"], tokenizer)
    if progress and launched().is_main_process:
        print(describe(corpus, tokenizer), file=sys.stderr)
        if asked.training.updates:
            print(f"at most {_length(recipe, len(splits['train']))}", file=sys.stderr)
    data = (splits["train"], splits["validation"], tokenizer)
    trainer = train_on(recipe, output_dir, *data, resume, accelerator, progress, profile, callbacks)
    told = (Path(output_dir) / FINISHED).is_file()  # by the process that came to the end
    if trainer.finished and trainer.accelerator.is_main_process and not told:  # nor was stopped by a callback
        sizes = {"train": len(trainer.train_set), "validation": len(trainer.validation_set)}
        processor = {"device": trainer.accelerator.device.type, "threads": torch.get_num_threads()}
        write_json(Path(output_dir) / FINISHED, {"documents": sizes, FILES: files, **processor})
    return trainer


def train_on(
    recipe: Recipe,
    output_dir: str | Path,
    train_dataset: Dataset,
    eval_dataset: Dataset,
    processing_class: PreTrainedTokenizerBase | None = None,
    resume: bool = False,
    accelerator: Accelerator | None = None,
    progress: bool = True,
    profile: bool = False,
    callbacks: Sequence[Callback] = (),
) -> SeqVAETrainer:
    """Train a recipe's model, its pretraining first, on data sets with a `text` column; `train` for data of your own.

    `processing_class` is the tokenizer, which receives the special tokens it lacks; None takes the one that the
    recipe's corpus asks for, trained from the training set. Raises what SeqVAETrainer and its `train` raise.
    """
    recipe = recipe.of_data(train_dataset, eval_dataset)
    tokenizer = _ready(processing_class) if processing_class else corpus_tokenizer(recipe.corpus, train_dataset)
    recipe = recipe.of_tokenizer(tokenizer).settled_on(train_dataset, tokenizer)
    arguments: dict[str, Any] = {"processing_class": tokenizer, "accelerator": accelerator, "progress": progress}
    arguments |= {"train_dataset": train_dataset, "eval_dataset": eval_dataset}
    pretrained = _pretrain(recipe, Path(output_dir), resume, arguments)
    model = fresh_model(recipe, tokenizer, train_dataset)
    if pretrained and not (Path(output_dir) / LAST).is_dir():
        take_over(model, pretrained, whole=recipe.pretraining is not None and not recipe.pretraining.reset_decoder)
    arguments |= {"profile": profile, "callbacks": callbacks, "pretraining": _cost(pretrained)}
    trainer = SeqVAETrainer(model=model, recipe=recipe, output_dir=output_dir, **arguments)
    trainer.train(resume=resume)
    return trainer


def _ready(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, or one with the special tokens that it lacks, of the same limit."""
    try:
        require_control_tokens(tokenizer)
    except ValueError:
        made = prepare_tokenizer(tokenizer)
        made.model_max_length = tokenizer.model_max_length
        return made
    return tokenizer


def _length(recipe: Recipe, sentences: int) -> str:
    """How long a run on so many sentences is: epochs and updates, and how much of that comes before it."""
    parts = []
    for stage, what in ((recipe.pretraining_recipe(), " of pretraining"), (recipe, "")):
        if stage:
            updates = stage.training.epochs * math.ceil(sentences / stage.training.batch_size)
            parts.append(f"{stage.training.epochs} epochs{what} ({updates:,} updates)")
    return ", then ".join(parts)


def _placed(recipe: Recipe, data_dir: str | Path | None, begun: Recipe | None) -> Recipe:
    """The recipe with the place of its files: as told, or where a run that has `begun` had them, or the working folder.

    Absolute files that are gone are looked for in `data_dir`.
    """
    spec = recipe.corpus
    if data_dir is None:
        data_dir = kept_place(spec, (begun or recipe).data_dir)
    elif not files_are_there(spec, data_dir):
        spec = moved_to(spec, data_dir)
    if data_dir is None and spec.hub is None and not all(map(os.path.isabs, paths_of(spec).values())):
        data_dir = "."
    place = None if data_dir is None else str(Path(data_dir).expanduser().resolve())  # wherever it is continued from
    return recipe.model_copy(update={"corpus": spec, "data_dir": place})


def fresh_model(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, train_set: Dataset) -> SeqVAEForTextModeling:
    """A recipe's model with its initial weights, which are a function of the seed and the training set.

    A vocabulary layer with a bias begins at the logarithms of the tokens' frequencies: z need not learn to say them.
    """
    set_seed(recipe.training.seed)
    model = SeqVAEForTextModeling(recipe.config(tokenizer))
    if model.lm_head.bias is not None:
        counts = torch.from_numpy(token_counts(tokenise(train_set, tokenizer), model.config.vocab_size)) + 1.0
        with torch.no_grad():
            model.lm_head.bias.copy_((counts / counts.sum()).log())
    return model


def _pretrain(recipe: Recipe, output_dir: Path, resume: bool, arguments: Mapping[str, Any]) -> str | None:
    """Train what the recipe's run begins with, or go on with it; where that is, None if it begins with nothing."""
    stage = recipe.pretraining_recipe()
    if stage is None:
        return recipe.encoder_from
    directory = output_dir / PRETRAINING
    if not (output_dir / LAST).is_dir():
        model = fresh_model(stage, arguments["processing_class"], arguments["train_dataset"])
        trainer = SeqVAETrainer(model=model, recipe=stage, output_dir=directory, **arguments)
        if trainer.show:
            print(f"pretraining, in {directory}", file=sys.stderr)
        trainer.train(resume=resume)
        trainer.accelerator.free_memory()
    return str(directory)


def _cost(pretrained: str | None) -> dict[str, Any] | None:
    """The last record of the run that an encoder comes from, nothing of what is no run; None where there is none."""
    if pretrained is None:
        return None
    history = read_history(Path(pretrained))
    return history[-1] if history else {}


def take_over(model: SeqVAEForTextModeling, checkpoint: str, whole: bool = False) -> None:
    """Give a model the encoder of a run, a checkpoint or a name on the hub, or with `whole` all of its weights.

    Raises ValueError that names the fields of the configuration in which the two differ, and what `load_best` raises.
    """
    source = load_best(checkpoint).model
    fields = ("vocab_size", "vocabulary_hash", *taken_over(model.config, whole))
    found = differing(source.config, model.config, fields)
    told = ", ".join(f"{name} {theirs} for {ours}" for name, (theirs, ours) in found.items())
    if found.keys() & {"vocab_size", "vocabulary_hash"}:
        told += f". To take over its vocabulary, train with its tokenizer: --tokenizer {checkpoint}"
    if told:
        raise ValueError(f"the encoder of {checkpoint} does not fit this run: it has {told}")
    own, other = (model, source) if whole else (model.get_encoder(), source.get_encoder())
    own.load_state_dict(other.state_dict())
