"""A run's best checkpoint, or any other: its model, its texts and its figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from datasets import Dataset
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoTokenizer

from ..checksums import CHECKSUMS, verify_checksums
from ..configuration_seqvae import SeqVAEConfig
from ..data.batching import cut_share_of, tokenise, unknown_share_of
from ..data.caching import quiet_libraries
from ..data.columns import Texts, identity_of, some_of
from ..data.corpora import Corpus, SplitReport, load_corpus, read_labelled, read_texts
from ..data.corpus_spec import SPLITS, CorpusSpec, Reading, files_are_there, moved_to
from ..data.files import read_yaml
from ..data.subwords import GIVEN, WORDS, kind_of
from ..evaluation.dual import FILE as DUAL_NETWORKS
from ..evaluation.dual import DualNetworks
from ..evaluation.evaluate import Evaluator, evaluate, precision_of
from ..loading import best_of, require_checkpoint
from ..own_modules import import_parts
from ..text import SeqVAE
from ..tokenization import is_word_level, normalisation_name
from .evaluations import weights_hash
from .recipe import Recipe, corpus_of, corpus_spec
from .run_directory import CHECKPOINTS, RECIPE, warn_of_changed_code


def best_checkpoint(checkpoint: str) -> str:
    """The best/ of a run's directory; any other checkpoint, or name on the hub, is itself.

    Raises FileNotFoundError for a run that has no checkpoint yet, and for what can be neither a folder nor on the hub.
    """
    best = best_of(checkpoint)
    if not Path(best).is_dir() and (Path(best).exists() or checkpoint.count("/") != 1):
        raise FileNotFoundError(f"there is no folder {checkpoint}; a model on the hub has a name like owner/model")
    return best


def load_best(checkpoint: str, device: Any = None) -> SeqVAE:
    """The model of `best_checkpoint`, whose files are what was written where it has a note of that.

    Raises ValueError that names one which is not, and what `best_checkpoint` raises.
    """
    best = best_checkpoint(checkpoint)  # maybe a name on the hub, which is no path everywhere
    import_parts(_imports_of(Path(best)))
    require_undamaged(Path(best))
    warn_of_changed_code(run_of(best))
    return SeqVAE.from_pretrained(best, device=device)


def require_undamaged(best: Path) -> None:
    """Raises ValueError that names a file of a checkpoint's folder which is not what its note says was written.

    A folder without such a note is let be, and so is the card.
    """
    if (best / CHECKSUMS).is_file():
        try:
            verify_checksums(best)
        except ValueError as error:
            raise ValueError(
                f"{best} is damaged ({error}): put back a copy of it, or train again; where it was changed on purpose, "
                f"remove its {CHECKSUMS}"
            ) from error


def evaluate_checkpoint(
    checkpoint: str,
    corpus: str | CorpusSpec | None = None,
    data_dir: str | Path | None = None,
    *,
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
    if isinstance(corpus, CorpusSpec) and corpus.test_alone and split != "test":
        raise ValueError(f"{corpus.name} is a single file, which is the test set: it has no {split} set")
    limits = limits or {}
    accelerator = Accelerator(cpu=device == "cpu")
    precision = precision_of(precision, accelerator)
    read = weights_hash(Path(best_checkpoint(checkpoint)))
    vae = load_best(checkpoint, device or accelerator.device)
    recipe = recipe_in(run_of(checkpoint))
    if corpus is not None and is_word_level(vae.tokenizer) != (corpus_spec(corpus).tokenizer == WORDS):
        corpus = corpus_spec(corpus).model_copy(update={"tokenizer": WORDS if is_word_level(vae.tokenizer) else GIVEN})
    loaded, texts, own = _to_measure(checkpoint, recipe, corpus, data_dir, split, limits)
    sentences, told = tokenise(loaded.splits[split], vae.tokenizer), loaded.report.splits[split]
    evaluator = Evaluator(vae.model, sentences, seed, batch_size, shuffle_words, accelerator, precision=precision)
    return {
        "title": recipe.title if recipe else checkpoint,
        "corpus": loaded.name,
        "own": own,
        "texts": texts.sha256,
        "split": split,
        "limit": limits.get(split),
        "read": str(told),
        "file": told.source if loaded.spec.test_alone else None,
        **evaluate(evaluator, nll_samples, nll_sentences, _dual_networks(checkpoint, vae)),
        "tokenizer": kind_of(vae.tokenizer),
        "unknown_share": unknown_share_of(sentences),
        "cut_share": max(told.truncated / told.documents, cut_share_of(sentences)),  # words are cut when they are read
        "seed": seed,
        "precision": precision,
        "weights": read,
    }


def own_texts(checkpoint: str, split: str, data_dir: str | Path | None = None, at_most: int | None = None) -> Dataset:
    """The texts of a split of a run's corpus, or `at_most` random ones of them, the same every time, in order.

    Raises ValueError for a checkpoint that is no run, a run on data in memory, and texts that are no longer the run's.
    """
    recipe = recipe_in(run_of(checkpoint))
    if recipe is None or recipe.corpus.in_memory:
        of = "training" if split == "train" else split
        raise ValueError(f"the {of} texts of {checkpoint} are not known here: give a file of them, or of others")
    return some_of(_to_measure(checkpoint, recipe, None, data_dir, split, recipe.limits)[0].splits[split], at_most)


def reading_of(checkpoint: str) -> Reading:
    """How files are read for a run's model, or for any checkpoint: as its own corpus was where a recipe.yaml says how.

    Without one it is known how the tokenizer cuts words, and how many it reads. Raises what `best_checkpoint` raises,
    and FileNotFoundError or ValueError for what is no checkpoint.
    """
    best = best_checkpoint(checkpoint)
    require_checkpoint(best, {})
    try:
        # The configuration may name parts that nobody has imported yet, of which transformers would warn.
        tokenizer = AutoTokenizer.from_pretrained(best, config=SeqVAEConfig())
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


def texts_for(
    checkpoint: str, path: Path, text_column: str | None, label_column: str | None
) -> tuple[Dataset, SplitReport]:
    """The texts of a file as the model of a checkpoint reads them, and with a label column their labels."""
    reading = reading_of(checkpoint)
    with quiet_libraries():
        if label_column is None:
            return read_texts(path, reading, text_column)
        return read_labelled(path, reading, text_column, label_column)


def kept_place(spec: CorpusSpec, kept: str | None) -> str | None:
    """The folder in which a run had its corpus's files, unless they are in the working folder only."""
    gone = kept is not None and spec.hub is None and not files_are_there(spec, kept)
    return None if gone and files_are_there(spec, None) else kept


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
        spec, data_dir = recipe.corpus, kept_place(recipe.corpus, recipe.data_dir)
    others = {name: 1 for name in SPLITS if name != split}  # which are read no further than that split depends on them
    loaded = load_corpus(spec, data_dir=data_dir, limits={**limits, **others})
    of_run = recipe.limits if recipe else {}
    same = limits.get(split) == of_run.get(split)
    known_by = loaded if same else load_corpus(spec, data_dir=data_dir, limits={**of_run, **others})
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


def _corpus_beside(checkpoint: str) -> CorpusSpec | None:
    """The corpus in the recipe of a checkpoint: in its folder, in that of its run, or beside it on the hub."""
    folder = Path(checkpoint)
    recipe = _recipe_of(folder)
    if recipe is None and not folder.is_dir():
        try:
            recipe = read_yaml(Path(hf_hub_download(checkpoint, RECIPE)))
        except (OSError, HfHubHTTPError):  # there is none, or the hub is out of reach
            return None
    return corpus_of(recipe, f"{RECIPE} of {checkpoint}") if recipe else None


def _recipe_of(folder: Path) -> dict[str, Any] | None:
    """The recipe.yaml of a checkpoint's folder or of its run, as it is written; None where there is none."""
    path = run_of(str(folder)) / RECIPE
    return read_yaml(path) if path.is_file() else None


def _imports_of(folder: Path) -> list[str]:
    """The modules that the recipe of a checkpoint names. Raises ValueError for what is no list of them."""
    modules = (_recipe_of(folder) or {}).get("imports", [])
    if not isinstance(modules, list) or not all(isinstance(module, str) for module in modules):
        raise ValueError(f"{run_of(str(folder)) / RECIPE}: imports must be a list of modules, not {modules!r}")
    return modules


def run_of(checkpoint: str) -> Path:
    """The run whose best/ a checkpoint is; any other is itself, with the recipe.yaml that it may hold."""
    folder = Path(checkpoint)
    run = folder.absolute().parent
    return run if folder.name in CHECKPOINTS and folder.is_dir() and not (folder / RECIPE).is_file() else folder


def recipe_in(run: Path) -> Recipe | None:
    """The recipe of a run's directory; None where there is none."""
    return Recipe.load(run / RECIPE) if (run / RECIPE).is_file() else None
