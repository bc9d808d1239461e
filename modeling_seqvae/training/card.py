"""The model card of a checkpoint: what it was trained on, how, and what was measured, from the run itself."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..configuration_seqvae import SeqVAEConfig
from .recipe import Recipe

TEMPLATE = """---
{metadata}
---

# {title} on {corpus}

{description}, after *Preventing Posterior Collapse in Sequence VAEs with Pooling* (Long, Cao and Cheung 2019).

```python
from modeling_seqvae import SeqVAE

vae = SeqVAE.from_pretrained("path/to/this/checkpoint")
{usage}
```

## Training

Corpus `{corpus}`, method `{method}`; the complete recipe is in `recipe.yaml` of the run.

| epoch | encoder / decoder updates | KL weight | learning rate | seconds |
|---:|---:|---:|---:|---:|
| {epoch} | {encoder_updates:,} / {decoder_updates:,} | {kl_weight:.2f} | {lr:g} | {seconds:,.0f} |

## Results on the validation set

Nats per sentence; -ELBO with one draw of z a sentence.

{results}

## Limits

The model knows the words of its training corpus only and writes what such texts say, true or not. The figures are one
training run's.
"""

SEQUENCE_VAE = """A sequence VAE on text: an LSTM encoder, `{config.pooling_mode}` pooling of its states, a posterior
over {config.latent_size} latent dimensions, and an LSTM decoder that writes the sentence from a latent"""
LANGUAGE_MODEL = "An LSTM language model on text: the decoder of a sequence VAE without a latent (`latent_size` 0)"

SCHEDULE = ("epoch", "encoder_updates", "decoder_updates", "kl_weight", "lr", "seconds")
MEASURES = {
    "bound": ("-ELBO", "{:.2f}"),
    "rec": ("Rec", "{:.2f}"),
    "kl": ("KL", "{:.2f}"),
    "mi": ("MI", "{:z.2f}"),
    "au": ("active units", "{}"),
    "cosine": ("cosine similarity", "{:z.2f}"),
}


def card(recipe: Recipe, record: Mapping[str, Any]) -> ModelCard:
    """The card of the model that a run's history record describes, with results as metadata that the hub renders.

    It names no licence: that is for those who own the texts to say.
    """
    config = SeqVAEConfig(**recipe.model)
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=recipe.corpus.name,
            dataset_name=recipe.corpus.name,
            dataset_split="validation",
            metric_type=key,
            metric_name=name,
            metric_value=record[key],
        )
        for key, (name, _) in MEASURES.items()
        if record[key] is not None
    ]
    metadata = ModelCardData(
        library_name="transformers",
        tags=["seqvae", "variational-autoencoder", "text"],
        model_name=f"{recipe.title} on {recipe.corpus.name}",
        eval_results=results,
    )
    rows = "\n".join(
        f"| {name} | {form.format(record[key])} |" for key, (name, form) in MEASURES.items() if record[key] is not None
    )
    encode, score = "features = vae.encode([...])  # [mean ; variance], a row a text", "vae.nll([...])"
    return ModelCard(
        TEMPLATE.format(
            metadata=metadata.to_yaml(),
            title=recipe.title,
            corpus=recipe.corpus.name,
            method=recipe.method,
            description=(SEQUENCE_VAE if config.latent_size else LANGUAGE_MODEL).format(config=config),
            usage=encode if config.latent_size else score,
            results=f"| measure | value |\n|---|---:|\n{rows}",
            **{key: record[key] for key in SCHEDULE},
        )
    )
