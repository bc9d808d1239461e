"""From a recipe to a trained run, and from a run to its figures."""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import Dataset
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..data.batching import cut_share_of, sentence_lengths, token_counts, tokenise, unknown_share_of
from ..data.columns import Texts, identity_of
from ..data.corpora import (
    SPLITS,
    Corpus,
    CorpusSpec,
    Reading,
    checksum_of_files,
    files_are_there,
    load_corpus,
    moved_to,
)
from ..data.files import CHECKSUMS, read_yaml, verify_checksums, write_json
from ..data.launch import launched
from ..data.subwords import GIVEN, WORDS, kind_of, prepare_tokenizer, require_control_tokens
from ..data.vocabulary import corpus_tokenizer
from ..evaluation.dual import FILE as DUAL_NETWORKS
from ..evaluation.dual import DualNetworks
from ..evaluation.evaluate import Evaluator, evaluate
from ..loading import best_of, require_checkpoint
from ..modeling_seqvae import SeqVAEForTextModeling
from ..registry import import_parts
from ..text import SeqVAE
from ..tokenization import is_word_level, normalisation_name
from .callbacks import Callback
from .recipe import DECODER_FIELDS, ENCODER_FIELDS, Recipe, corpus_spec
from .report import quiet_libraries
from .run_directory import CHECKPOINTS, RECIPE, WEIGHTS, holds_run, read_history, weights_hash
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
    begun = _recipe(Path(output_dir)) or _recipe(Path(output_dir) / PRETRAINING) if resume else None
    recipe = _placed(recipe, data_dir, begun)
    files = checksum_of_files(recipe.corpus, recipe.data_dir)
    with nullcontext() if progress else quiet_libraries():
        corpus, tokenizer = read_corpus(recipe, recipe.data_dir)
    splits = corpus.splits
    asked, recipe = recipe, recipe.with_texts(splits).settled(len(splits["train"]))
    if progress and launched().is_main_process:
        print(describe(corpus, tokenizer), file=sys.stderr)
        if asked.training.updates:
            print(f"at most {_length(recipe, len(splits['train']))}", file=sys.stderr)
    data = (splits["train"], splits["validation"], tokenizer)
    trainer = train_on(recipe, output_dir, *data, resume, accelerator, progress, profile, callbacks)
    if trainer.finished and trainer.accelerator.is_main_process:  # and was not stopped by a callback
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
    recipe = recipe.of_data(train_dataset, eval_dataset).settled(len(train_dataset))
    tokenizer = _ready(processing_class) if processing_class else corpus_tokenizer(recipe.corpus, train_dataset)
    recipe = recipe.of_tokenizer(tokenizer)
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
    paths = spec.files.model_dump(exclude_none=True).values() if spec.files else ()
    if data_dir is None:
        data_dir = _kept_place(spec, (begun or recipe).data_dir)
    elif not files_are_there(spec, data_dir):
        spec = moved_to(spec, data_dir)
    if data_dir is None and spec.hub is None and not all(map(os.path.isabs, paths)):
        data_dir = "."
    place = None if data_dir is None else str(Path(data_dir).expanduser().resolve())  # wherever it is continued from
    return recipe.model_copy(update={"corpus": spec, "data_dir": place})


def _kept_place(spec: CorpusSpec, kept: str | None) -> str | None:
    """The folder in which a run had its corpus's files, unless they are in the working folder only."""
    gone = kept is not None and spec.hub is None and not files_are_there(spec, kept)
    return None if gone and files_are_there(spec, None) else kept


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
    """The last record of the run an encoder comes from, of no cost where that is no run; None where there is none."""
    if pretrained is None:
        return None
    history = read_history(Path(pretrained))
    return history[-1] if history else {"seconds": 0, "encoder_updates": 0}


def take_over(model: SeqVAEForTextModeling, checkpoint: str, whole: bool = False) -> None:
    """Give a model the encoder of a run, a checkpoint or a name on the hub, or with `whole` all of its weights.

    Raises ValueError that names the fields of the configuration in which the two differ, and what `load_best` raises.
    """
    source = load_best(checkpoint).model
    fields = ("vocab_size", "vocabulary_hash", *ENCODER_FIELDS, *(DECODER_FIELDS if whole else ()))
    pairs = {name: (getattr(source.config, name), getattr(model.config, name)) for name in fields}
    told = ", ".join(f"{name} {theirs} for {ours}" for name, (theirs, ours) in pairs.items() if theirs != ours)
    if pairs["vocab_size"][0] != pairs["vocab_size"][1] or pairs["vocabulary_hash"][0] != pairs["vocabulary_hash"][1]:
        told += f". To take over its vocabulary, train with its tokenizer: --tokenizer {checkpoint}"
    if told:
        raise ValueError(f"the encoder of {checkpoint} does not fit this run: it has {told}")
    for own, other in ((model, source),) if whole else ((model.get_encoder(), source.get_encoder()),):
        own.load_state_dict(other.state_dict())


def best_checkpoint(checkpoint: str) -> str:
    """The best/ of a run's directory; any other checkpoint, or name on the hub, is itself.

    Raises FileNotFoundError for a run that has no checkpoint yet, and for what can be neither a folder nor on the hub.
    """
    best = best_of(checkpoint)
    if not Path(best).is_dir() and (Path(best).exists() or checkpoint.count("/") != 1):
        raise FileNotFoundError(f"there is no folder {checkpoint}; a model on the hub has a name like owner/model")
    return best


def load_best(checkpoint: str, device: Any = None) -> SeqVAE:
    """The model of `best_checkpoint`, whose weights are what was written where it has a note of that.

    Raises ValueError that names weights which are not, and what `best_checkpoint` raises.
    """
    best = best_checkpoint(checkpoint)  # maybe a name on the hub, which is no path everywhere
    folder = Path(best)
    import_parts((_recipe_of(folder) or {}).get("imports", ()))
    if (folder / CHECKSUMS).is_file():
        try:
            verify_checksums(folder, [name for name in (WEIGHTS, DUAL_NETWORKS) if (folder / name).is_file()])
        except ValueError as error:
            raise ValueError(f"{best} is damaged ({error}): put back a copy of it, or train again") from error
    return SeqVAE.from_pretrained(best, device=device)


def reading_of(checkpoint: str) -> Reading:
    """How files are read for a run's model, or for any checkpoint: as its own corpus was where a recipe.yaml says how.

    Without one it is known how the tokenizer cuts words, and how many it reads. Raises what `best_checkpoint` raises,
    and FileNotFoundError or ValueError for what is no checkpoint.
    """
    best = best_checkpoint(checkpoint)
    require_checkpoint(best, {})
    try:
        tokenizer = AutoTokenizer.from_pretrained(best)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f"{best} holds no tokenizer that loads ({str(error).splitlines()[0]})") from error
    by_words = is_word_level(tokenizer)
    reading = Reading(
        normalisation=normalisation_name(tokenizer) or "whitespace",
        unknown_mark=tokenizer.unk_token if by_words else None,
        tokenizer=WORDS if by_words else GIVEN,
        max_words=max(1, min(tokenizer.model_max_length, 1 << 30) - 2),  # it may be no limit at all
    )
    corpus = _corpus_beside(best)
    return reading if corpus is None or corpus.in_memory else reading.as_in(corpus)


def _corpus_beside(checkpoint: str) -> CorpusSpec | None:
    """The corpus in the recipe of a checkpoint: in its folder, in that of its run, or beside it on the hub."""
    folder = Path(checkpoint)
    recipe = _recipe_of(folder)
    if recipe is None and not folder.is_dir():
        try:
            recipe = read_yaml(Path(hf_hub_download(checkpoint, RECIPE)))
        except (OSError, HfHubHTTPError):  # there is none, or the hub is out of reach
            return None
    return CorpusSpec.model_validate(recipe["corpus"]) if recipe else None


def _recipe_of(folder: Path) -> dict[str, Any] | None:
    """The recipe.yaml of a checkpoint's folder or of its run, as it is written; None where there is none."""
    for path in (folder / RECIPE, folder.absolute().parent / RECIPE):
        if folder.is_dir() and path.is_file() and (path.parent == folder or folder.name in CHECKPOINTS):
            return read_yaml(path)
    return None


def evaluate_checkpoint(
    checkpoint: str,
    corpus: str | CorpusSpec | None = None,
    data_dir: str | Path | None = None,
    split: str = "test",
    limits: Mapping[str, int] | None = None,
    nll_samples: int = 500,
    nll_sentences: int | None = None,
    shuffle_words: bool = False,
    batch_size: int = 32,
    seed: int = 0,
    device: str | None = None,
    precision: str | None = None,
) -> dict[str, Any]:
    """All figures of a run's best model, or of any checkpoint, on a split of a corpus; the run's own by default.

    The report's `texts` is the SHA-256 of the split's texts, and `own` tells whether they are the run's, whatever the
    corpus is called and wherever it lies. `precision` is "no" (float32) or "bf16"; None takes what accelerate is
    configured for. The report says which it was.

    Raises ValueError for a split or a precision that does not exist and, when no corpus is named, for a checkpoint that
    is no run, a run on data in memory, and texts that are no longer those of the run.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    if precision not in (None, "no", "bf16"):
        raise ValueError(f"precision {precision!r} is not one of no, bf16")
    if isinstance(corpus, CorpusSpec) and corpus.test_alone and split != "test":
        raise ValueError(f"{corpus.name} is a single file, which is the test set: it has no {split} set")
    limits = limits or {}
    accelerator = Accelerator(cpu=device == "cpu")
    read = weights_hash(Path(best_checkpoint(checkpoint)))
    vae = load_best(checkpoint, device or accelerator.device)
    recipe = _recipe(Path(checkpoint))
    if corpus is not None and is_word_level(vae.tokenizer) != (corpus_spec(corpus).tokenizer == WORDS):
        corpus = corpus_spec(corpus).model_copy(update={"tokenizer": WORDS if is_word_level(vae.tokenizer) else GIVEN})
    loaded, texts, own = _to_measure(checkpoint, recipe, corpus, data_dir, split, limits)
    sentences = tokenise(loaded.splits[split], vae.tokenizer)
    evaluator = Evaluator(vae.model, sentences, seed, batch_size, shuffle_words, accelerator, precision=precision)
    return {
        "title": recipe.title if recipe else checkpoint,
        "corpus": loaded.name,
        "own": own,
        "texts": texts.sha256,
        "split": split,
        "limit": limits.get(split),
        "read": str(loaded.report.splits[split]),
        "file": loaded.report.splits[split].source if loaded.spec.test_alone else None,
        **evaluate(evaluator, nll_samples, nll_sentences, _dual_networks(checkpoint, vae)),
        "tokenizer": kind_of(vae.tokenizer),
        "unknown_share": unknown_share_of(sentences),
        "cut_share": cut_share_of(sentences),
        "seed": seed,
        "precision": evaluator.precision,
        "weights": read,
    }


def training_texts(checkpoint: str, data_dir: str | Path | None = None, at_most: int | None = None) -> list[str]:
    """The training texts of a run, or `at_most` random ones of them; see `own_texts`."""
    return list(own_texts(checkpoint, "train", data_dir, at_most)["text"])


def own_texts(checkpoint: str, split: str, data_dir: str | Path | None = None, at_most: int | None = None) -> Dataset:
    """The texts of a split of a run's corpus, or `at_most` random ones of them, the same every time, in order.

    Raises ValueError for a checkpoint that is no run, a run on data in memory, and texts that are no longer the run's.
    """
    recipe = _recipe(Path(checkpoint))
    if recipe is None or recipe.corpus.in_memory:
        of = "training" if split == "train" else split
        raise ValueError(f"the {of} texts of {checkpoint} are not known here: give a file of them, or of others")
    return some_of(_to_measure(checkpoint, recipe, None, data_dir, split, recipe.limits)[0].splits[split], at_most)


def some_of(rows: Dataset, at_most: int | None) -> Dataset:
    """The rows, or `at_most` random ones of them, the same every time, in order."""
    if at_most is None or len(rows) <= at_most:
        return rows
    return rows.select(np.sort(np.random.default_rng(0).permutation(len(rows))[:at_most]))


def _to_measure(
    checkpoint: str,
    recipe: Recipe | None,
    corpus: str | CorpusSpec | None,
    data_dir: str | Path | None,
    split: str,
    limits: Mapping[str, int],
) -> tuple[Corpus, Texts, bool]:
    """The corpus to evaluate on, what the texts of a split are known by, and whether these are the run's own."""
    if corpus is not None:
        spec = corpus_spec(corpus)
    elif recipe is None:
        raise ValueError(f"{checkpoint} is not a run's directory, which says on what it was trained: name a --corpus")
    elif recipe.corpus.in_memory:
        raise ValueError(f"{checkpoint} was trained on data in memory, which cannot be read again: name a --corpus")
    elif data_dir is not None:
        moved = moved_to(recipe.corpus, data_dir)
        only_before = files_are_there(recipe.corpus, data_dir) and not files_are_there(moved, data_dir)
        spec = recipe.corpus if only_before else moved
    else:
        spec, data_dir = recipe.corpus, _kept_place(recipe.corpus, recipe.data_dir)
    loaded = load_corpus(spec, data_dir=data_dir, limits=limits)
    of_run = recipe.limits if recipe else {}
    same = limits.get(split) == of_run.get(split)
    known_by = loaded if same else load_corpus(spec, data_dir=data_dir, limits=of_run)
    texts = identity_of(known_by.splits[split])
    if recipe is None:
        return loaded, texts, False
    own = texts == recipe.texts[split] if recipe.texts.get(split) else corpus is None or spec == recipe.corpus
    if corpus is None and not own:
        raise ValueError(
            f"the {split} texts of {loaded.name} are not those that {checkpoint} began with: say where those are "
            "(--data-dir), or name these as --corpus to measure the model on other texts"
        )
    return loaded, texts, own


def _dual_networks(checkpoint: str, vae: SeqVAE) -> DualNetworks | None:
    """Those that a run or checkpoint keeps beside its model, if it has any."""
    directory = Path(best_checkpoint(checkpoint))
    return DualNetworks.load(directory, vae.model.config) if (directory / DUAL_NETWORKS).is_file() else None


def _recipe(run: Path) -> Recipe | None:
    return Recipe.load(run / RECIPE) if (run / RECIPE).is_file() else None
