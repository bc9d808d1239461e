"""The model card of a checkpoint: what it was trained on, how, and what was measured, from the run itself."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .recipe import Recipe

TEMPLATE = """---
{metadata}
---

# {title} on {corpus}

A sequence VAE on text: an LSTM encoder whose states are pooled, a latent of {latent_size} dimensions, and an LSTM
decoder that writes the sentence from it, after *Preventing Posterior Collapse in Sequence VAEs with Pooling* (Long, Cao
and Cheung 2019).

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

SCHEDULE = ("epoch", "encoder_updates", "decoder_updates", "kl_weight", "lr", "seconds")
MEASURES = {
    "bound": "-ELBO", "rec": "Rec", "kl": "KL", "mi": "MI", "au": "active units", "cosine": "cosine similarity",
}  # fmt: skip


def card(recipe: Recipe, record: Mapping[str, Any]) -> ModelCard:
    """The card of the model that a run's history record describes, with results as metadata that the hub renders."""
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
        for key, name in MEASURES.items()
        if record[key] is not None
    ]
    metadata = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        tags=["seqvae", "variational-autoencoder", "text"],
        model_name=f"{recipe.title} on {recipe.corpus.name}",
        eval_results=results,
    )
    rows = "\n".join(f"| {result.metric_name} | {result.metric_value:.2f} |" for result in results)
    latent_size = recipe.model.get("latent_size", 32)
    usage = "features = vae.encode([...])  # [mean ; variance], a row a text" if latent_size else "vae.nll([...])"
    return ModelCard(
        TEMPLATE.format(
            metadata=metadata.to_yaml(),
            title=recipe.title,
            corpus=recipe.corpus.name,
            method=recipe.method,
            latent_size=latent_size,
            usage=usage,
            results=f"| | |\n|---|---:|\n{rows}",
            **{key: record[key] for key in SCHEDULE},
        )
    )
