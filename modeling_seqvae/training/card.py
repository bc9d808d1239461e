"""The model card of a checkpoint: what it was trained on, how, and what was measured, from the run itself.

The trainer writes one into every best/, so this stands beside it; what a run knows only later is added when it is
shared. The text is that of `model_cards/template.md`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..configuration_seqvae import COLLAPSED_BELOW, SeqVAEConfig
from ..data.corpus_spec import CorpusSpec
from ..data.subwords import BPE, WORDS, hub_name
from ..decoders import DECODERS
from ..encoders import ENCODERS
from ..evaluation.table import how_likelihoods, markdown_table, state_of, uninformative
from ..modeling_seqvae import SeqVAEForTextModeling
from ..sharing import how_to_import, own_parts
from .configuration import shipped
from .objectives import objective_class
from .recipe import Recipe
from .specs import TrainingSpec

SEQUENCE_VAE = (
    "A sequence VAE on text: {reader}, `{pooling_mode}` pooling of its states, a posterior over {latent_size} "
    "latent dimensions, and {writer} that writes the sentence from a latent"
)
LANGUAGE_MODEL = "{alone} on text: the decoder of a sequence VAE without a latent (`latent_size` 0)"

MEASURES = {
    "nll": ("NLL", "{:.2f}"),
    "nll_bar": ("NLL-bar", "{:.2f}"),
    "ppl": ("PPL", "{:.2f}"),
    "bits_per_byte": ("bits per byte", "{:.3f}"),
    "bound": ("-ELBO", "{:.2f}"),
    "rec": ("Rec", "{:.2f}"),
    "kl": ("KL", "{:z.2f}"),
    "mi": ("MI", "{:z.2f}"),
    "au": ("active units", "{}"),
    "cosine": ("cosine similarity", "{:z.2f}"),
}
"""Figures of a history and of an evaluation: their names and forms."""


def template_path() -> Path:
    """The template of the cards."""
    return shipped("model_cards/template.md")


def card(
    recipe: Recipe,
    record: Mapping[str, Any],
    *,
    config: SeqVAEConfig | None = None,
    epochs: int | None = None,
    evaluation: Mapping[str, Any] | None = None,
    samples: Sequence[str] = (),
    source: str = "path/to/this/checkpoint",
    code: bool = False,
    curves: bool = False,
    licence: str | None = None,
    note: str = "",
) -> ModelCard:
    """The card of the model that a run's history record describes, with results as metadata that the hub renders.

    `config` is the model's, which tells its vocabulary; `epochs` is how many were run; `evaluation` is of the test set;
    `source` is where the model is loaded from; `code` and `curves` say that its code and curves.png are beside it. It
    names no licence unless told: that is for those who own the texts to say. `note` stands below the description.
    """
    sizes = config or recipe.sizes
    own = own_parts(sizes)
    splits = {"validation": record, **({"test": evaluation} if evaluation else {})}
    title = f"{recipe.title} on {recipe.corpus.name}"
    metadata = ModelCardData(
        library_name="transformers",
        license=licence,
        tags=["seqvae", "variational-autoencoder", "text"],
        datasets=None if _files(recipe) or not recipe.corpus.hub else [recipe.corpus.hub.dataset],
        model_name=title,
        eval_results=[result for split, figures in splits.items() for result in _results(recipe, figures, split)],
    )
    return ModelCard.from_template(
        metadata,
        template_str=template_path().read_text("utf-8"),
        title=title,
        description=(SEQUENCE_VAE if sizes.latent_size else LANGUAGE_MODEL).format(
            **sizes.to_dict(),
            reader=ENCODERS[sizes.encoder].title,
            writer=DECODERS[sizes.decoder].title,
            alone=DECODERS[sizes.decoder].alone,
        ),
        note=note,
        source=source,
        latent=sizes.latent_size,
        own=own,
        how_to_import=how_to_import(own, code),
        data=list(_data(recipe)),
        words=recipe.corpus.tokenizer == WORDS,
        sizes=list(_sizes(sizes, known=config is not None)),
        schedule=_start(recipe, record) + _schedule(recipe.training, record, epochs, sizes.latent_size),
        epoch=record["epoch"],
        updates=f"{record['encoder_updates']:,} / {record['decoder_updates']:,}",
        kl_weight=f"{record['kl_weight']:.2f}",
        lr=f"{record['lr']:g}",
        seconds=f"{record['seconds']:,.0f}",
        caption=_caption(evaluation, sizes.latent_size),
        results=_table(splits),
        verdict=_verdict(list(splits), evaluation or record, sizes.latent_size),
        samples=samples,
        code=code,
        curves=curves,
    )


def _results(recipe: Recipe, figures: Mapping[str, Any], split: str) -> Iterator[EvalResult]:
    for key, (name, _) in MEASURES.items():
        if figures.get(key) is not None and _is_told(key, figures):
            yield EvalResult(
                task_type="text-generation",
                dataset_type=re.sub(r"[^\w.-]+", "-", recipe.corpus.name),  # the hub wants an identifier
                dataset_name=recipe.corpus.name,
                dataset_split=split,
                metric_type=key,
                metric_name=name,
                metric_value=figures[key],
            )


def _table(splits: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a measure, a column a split."""
    rows = []
    for key, (name, form) in MEASURES.items():
        values = [figures.get(key) if _is_told(key, figures) else None for figures in splits.values()]
        if any(value is not None for value in values):
            rows.append([name, *("–" if value is None else form.format(value) for value in values)])
    return markdown_table(["measure", *splits], rows)


def _is_told(key: str, figures: Mapping[str, Any]) -> bool:
    """Bits per byte compare tokenizers; for words, which are all of the text where none is unknown, the NLL does."""
    return key != "bits_per_byte" or figures.get("tokenizer", WORDS) != WORDS


def _files(recipe: Recipe) -> bool:
    """Whether the run read files of its owner's, where the corpus can also be built from the hub."""
    return recipe.corpus.files is not None and (recipe.data_dir is not None or recipe.corpus.hub is None)


def _data(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What the texts are and how they were read; no paths, which say more of their owner than of them."""
    corpus = recipe.corpus
    if corpus.in_memory:
        yield "corpus", "data sets in memory, which no corpus of the package names"
        yield "texts", ", ".join(f"{found.documents:,} for {split}" for split, found in recipe.texts.items())
        yield "SHA-256", ", ".join(f"`{found.sha256[:16]}…` ({split})" for split, found in recipe.texts.items())
        if corpus.tokenizer != WORDS:
            yield "tokens", _tokens(corpus)
        return
    if corpus.embedded:
        yield "corpus", f"`{corpus.name}`, reviews that a probabilistic grammar of the package writes"
    elif _files(recipe) or not corpus.hub:
        yield "corpus", f"`{corpus.name}`, from files"
    else:
        yield "corpus", f"`{corpus.name}`, a sample with seed {corpus.hub.seed} of `{corpus.hub.dataset}` on the hub"
    if recipe.limits:
        parts = (f"{split} {count:,}" for split, count in recipe.limits.items())
        yield "only the first documents of", ", ".join(parts)
    if corpus.tokenizer != WORDS:
        yield "tokens", _tokens(corpus)
        return
    cut = {"words": "raw text, lower-cased, punctuation apart", "whitespace": "words as white space parts them"}
    yield "words", f"{cut.get(corpus.normalisation, corpus.normalisation)}; documents end after {corpus.max_words:,}"


def _tokens(corpus: CorpusSpec) -> str:
    """What the tokens are where they are not words."""
    if corpus.tokenizer == BPE:
        kind = "byte-level BPE trained from these texts"
    elif hub_name(corpus.tokenizer):
        kind = f"those of `{corpus.tokenizer}`"
    else:
        kind = "those of a tokenizer made elsewhere, which is beside the weights"
    return f"{kind}; documents end after {corpus.max_words:,}"


def _sizes(config: SeqVAEConfig, known: bool) -> Iterator[tuple[str, str]]:
    if known:  # the vocabulary, and with it the number of weights
        with torch.device("meta"):
            parameters = SeqVAEForTextModeling(config).num_parameters()
        yield "parameters", f"{parameters:,}"
        yield "vocabulary", f"{config.vocab_size:,} tokens"
    yield "embeddings", f"{config.embedding_size:,}"
    layers = config.num_hidden_layers
    yield "hidden states", f"{config.hidden_size:,} in {'one layer' if layers == 1 else f'each of {layers} layers'}"
    if config.latent_size:
        yield "latent", f"{config.latent_size}, posterior `{config.posterior}`"


def _schedule(training: TrainingSpec, record: Mapping[str, Any], epochs: int | None, latent_size: int) -> str:
    options = _options(training.optimizer_options) + (
        f" (embeddings and vocabulary layer{_options(training.table_options)})" if training.table_options else ""
    )
    run = f"{epochs} of at most {training.epochs}" if epochs else f"At most {training.epochs}"
    objective = objective_class(training.objective)
    by = objective.selects_by
    chosen = {"rec": "reconstruction loss"}.get(by, MEASURES[by][0])
    rise = f"`{training.kl_schedule}` from {training.kl_weight(0):g} to {training.kl_stop:g}"
    constant = f"{training.kl_stop if objective.weighs_kl else 0:g} throughout"
    weight = f"; KL weight {rise if training.annealing_epochs and objective.weighs_kl else constant}"
    return (
        f"{run} epochs of {record['decoder_updates'] / record['epoch']:,.0f} updates, in batches of "
        f"{training.batch_size}, by `{training.optimizer}`{options} on the objective `{training.objective}`"
        f"{weight if latent_size else ''}; seed {training.seed}. The checkpoint is of the epoch with the lowest "
        f"validation {chosen}."
    )


def _start(recipe: Recipe, record: Mapping[str, Any]) -> str:
    """What the run began with, in a sentence; nothing where it began at random."""
    stage = recipe.pretraining_recipe()
    if stage:
        taken = "encoder" if recipe.pretraining and recipe.pretraining.reset_decoder else "weights"
        source = f"{taken} of a pretraining with the decoder `{stage.sizes.decoder}` on the objective "
        source += f"`{stage.training.objective}`"
    elif recipe.encoder_from:
        named = f"`{recipe.encoder_from}`" if on_the_hub(recipe.encoder_from) else "another run"
        source = f"encoder of {named}"
    else:
        return ""
    cost = "{pretraining_updates:,} updates in {pretraining_seconds:,.0f} seconds, which the table counts"
    unknown = "whose cost is not known and not counted"  # of a checkpoint without its run's history
    return f"It began with the {source}, {cost.format(**record) if record['pretraining_updates'] else unknown}. "


def on_the_hub(name: str) -> bool:
    """Whether a checkpoint's name is one on the hub, which may be told, and not a folder of this machine."""
    return name.count("/") == 1 and not name.startswith((".", "~", "/")) and not Path(name).exists()


def _options(options: Mapping[str, Any]) -> str:
    return "".join(f", {name} {value}" for name, value in options.items())


def _caption(evaluation: Mapping[str, Any] | None, latent_size: int) -> str:
    text = f"Nats per sentence{'; -ELBO with one draw of z a sentence' if latent_size else ''}."
    if not evaluation:
        return text
    return (
        f"{text} The test set has {evaluation['sentences']:,} sentences; NLL {how_likelihoods([evaluation])}."
        f"{_precision(evaluation)}"
    )


def _precision(evaluation: Mapping[str, Any]) -> str:
    """A sentence, after a space, on test figures that are not in float32; older evaluations are, and do not say so."""
    precision = evaluation.get("precision", "no")
    return "" if precision == "no" else f" The test set's figures were measured in {precision}."


def _verdict(splits: Sequence[str], figures: Mapping[str, Any], latent_size: int) -> str:
    """Whether the posterior collapsed, by the last of the splits."""
    if not latent_size:
        return ""
    state = state_of(figures)
    why = state == "all but collapsed" and uninformative(figures)
    information = f", the mutual information of sentence and latent {max(0.0, figures['mi']):.2f} nats" if why else ""
    return (
        f"The posterior has {state}: on the {splits[-1]} set the KL is {figures['kl']:.2f} nats a sentence (below "
        f"{COLLAPSED_BELOW} the latent is as good as ignored){information}, and {figures['au']} of {latent_size} units "
        "are active."
    )
