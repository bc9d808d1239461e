"""The target `positions`: do latents hold the sentence, or its first words and its length only?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.batching import tokenise
from ..evaluation.positions import DRAWS, PositionEvaluator, position_report
from ..evaluation.reading import FIRST_WORDS, read_from_means
from ..evaluation.table import numbers
from ..training.recipe import corpus_spec
from .encoders import best_encoder, corpus_of_run, encoder_runs, findings, seed_by_seed
from .latent_figures import BAND, positions_figure
from .reporting import Report, Spread, Table, spread
from .request import Request
from .rows import corpus_of, over_seeds, spreads, title_of
from .steps import Measurement, Step, Training

SAVED = {
    "title": ("model", "{}"),
    "rec": ("Rec", "{:.2f}"),
    "kl": ("KL", "{:z.2f}"),
    "told": ("told", "{:z.2f}"),
    "told_first": ("told:\nfirst word", "{:z.2f}"),
    "told_between": ("told:\nbetween", "{:z.2f}"),
    "told_end": ("told:\n</s>", "{:z.2f}"),
    "later_share": ("beyond\n3 words", "{:.0%}"),
    "saved": ("saved", "{:z.2f}"),
    "saved_first": ("saved:\nfirst word", "{:z.2f}"),
    "saved_between": ("saved:\nbetween", "{:z.2f}"),
    "saved_end": ("saved:\n</s>", "{:z.2f}"),
}
READ = {
    "title": ("model", "{}"),
    "length_r2": ("length,\nR²", "{:z.2f}"),
    "first_word_accuracy": ("first\nword", "{:.1%}"),
    "first_word_majority": ("first word,\nmajority", "{:.1%}"),
    "label_accuracy": ("label", "{:.1%}"),
    "label_majority": ("label,\nmajority", "{:.1%}"),
}
CURVES = ("from_start", "from_end")
NOTE = (
    "Told: nats that z spares the decoder beyond what the words before tell, from few draws and therefore estimated "
    "somewhat too high; saved: against a z of the prior, which misleads it. Each is the sum of the first word, `</s>` "
    "and what is between. A majority is the accuracy of always giving the commonest answer of the training sentences; "
    "always giving their mean length has an R² of 0."
)
SHARE_NOTE = (
    "Beyond 3 words: the share of what is told that lies at the fourth word and later ones, `</s>` left out; a "
    "dash where less than a tenth of a nat is told."
)


class Positions:
    """Nats that z saves at each word, and what linear probes read from its mean."""

    summary = "beyond the paper: the nats that z saves at each word, and what can be read from its mean"
    draws = True

    def steps(self, request: Request) -> Sequence[Step]:
        runs = encoder_runs(request, "positions")
        return seed_by_seed([[_measurement(request, training) for training in seeds] for seeds in runs])

    def report(self, request: Request, output_dir: Path) -> Report:
        saved, read, curves, sentences = [], [], {}, []
        for seeds in encoder_runs(request, "positions"):
            found = findings([_measurement(request, training) for training in seeds], output_dir)
            row = {"method": seeds[0].recipe.method, "title": title_of(seeds, len(found))}
            keys = [*(name for name in SAVED if name != "title"), "told_later"]
            mean = _mean_curves(found)
            saved.append(row | spreads(found, [*keys, *(f"{key}_se" for key in keys)]) | mean)
            read.append(row | _read([one["read"] for one in found]))
            sentences += [one["sentences"] for one in found]
            if mean:
                curves[seeds[0].recipe.title] = mean
        count = f"{numbers(sentences) or 'no'} test sentences"
        place, drawn = f"{corpus_of(request)}, {count}", f"{corpus_spec(request.corpus).name}, {count}"
        of_saved = f"Nats per sentence that z ~ q(z|x) tells and saves, {DRAWS} draws: {place}"
        of_read = f"What linear probes read from the mean of q(z|x), {FIRST_WORDS} first words at most: {place}"
        return Report(
            [
                Table(f"{of_saved}{over_seeds(request)}.", SAVED, saved),
                Table(f"{of_read}{over_seeds(request)}.", READ, read),
            ],
            [NOTE, SHARE_NOTE] if any(row["later_share"] for row in saved) else [NOTE],
            (lambda path: positions_figure(curves, path, f"{drawn}; bands: ± {BAND} s.e.")) if curves else None,
        )


def _measurement(request: Request, training: Training) -> Measurement:
    return Measurement(
        f"{training.title}: positions",
        training.folder,
        request.measured("positions"),
        measure_positions,
        {"draws": DRAWS, "limit": request.limits.get("test")},
        (training,),
        request.data_dir,
    )


def measure_positions(
    runs: Sequence[Path], folder: Path, data_dir: Path | None, draws: int, limit: int | None
) -> dict[str, Any]:
    """The report of `position_report` on the test set, and what `read_from_means` reads, as `read`."""
    vae, corpus = best_encoder(runs[0]), corpus_of_run(runs[0], data_dir, limit)
    test = corpus.splits["test"]
    costs = PositionEvaluator(vae.model, tokenise(test, vae.tokenizer)).token_costs(draws)
    return position_report(costs) | {"read": read_from_means(vae, corpus.splits["train"], test)}


def _mean_curves(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """The mean of the curves of several seeds, which are of the same sentences."""
    if not found:
        return {}
    return {
        name: {key: np.mean([one[name][key] for one in found], 0).tolist() for key in found[0][name]} for name in CURVES
    }


def _read(found: Sequence[Mapping[str, Any]]) -> dict[str, Spread | None]:
    """The figures of the probes: `length_r2`, `label_accuracy` and so on."""
    names = {f"{probe}_{key}": (probe, key) for one in found for probe in ("length", "first_word", "label")
             for key in one[probe] or ()}  # fmt: skip
    return {
        name: spread([one[probe][key] for one in found if one[probe] is not None])
        for name, (probe, key) in names.items()
    }
