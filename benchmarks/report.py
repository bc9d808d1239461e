"""Writes the documents' tables of what benchmarks measured, from the JSON that they left in docs/performance/.

python benchmarks/report.py
"""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pages import with_region

from modeling_seqvae.evaluation.classification_report import SUMMARY, caption
from modeling_seqvae.evaluation.table import markdown, markdown_table

ROOT = Path(__file__).resolve().parents[1]
PAGES = tuple(
    ROOT / "docs" / name for name in ("performance.md", "serving.md", "results.md", "features.md", "latent_space.md")
)
MEASURED = ROOT / "docs" / "performance"


def throughput(report: dict[str, Any]) -> str:
    """The machine in a sentence, and a row for each piece of work."""
    machine, size, records = report["machine"], report["size"], report["records"]
    rates = [_span([record[key] for record in records]) for key in ("float32", "limit_float32", "limit_bfloat16")]
    told = (
        f"{machine['processor']}, {_threads(machine)}, torch {machine['torch']}; {size['tokens']} tokens a "
        f"sentence, vocabulary {size['vocabulary']:,}, hidden {size['hidden']}, embedding {size['embedding']}, latent "
        f"{size['latent']}; iw_nll with {size['samples']} samples. Matrix products while it ran: {rates[0]} GFLOP/s in "
        f"float32 as torch does them by default, {rates[1]} as the package has them done, {rates[2]} in bfloat16."
    )
    rows = [
        [
            ("of which " if record["part_of"] else "") + record["work"],
            record["precision"],
            str(record["sentences"]),
            f"{record['seconds']:.3f}",
            f"{record['words_per_second']:,.0f}",
            f"{record['share_of_limit']:.0%}",
            f"{record['multiple_of_reference']:.2f}" if "multiple_of_reference" in record else "",
            f"{record['peak_mb']:,.0f}",
        ]
        for record in records
    ]
    titles = ["work", "precision", "sentences", "seconds", "words/s", "of the limit", "× reference", "peak MB"]
    difference = report.get("bf16_nll_difference")
    apart = f"NLL in bfloat16 against float32, same weights and draws: at most {difference or 0:.4f} nats apart."
    return f"{told}\n\n{markdown_table(titles, rows, text_columns=2)}" + ("" if difference is None else f"\n\n{apart}")


def gpu_throughput(report: dict[str, Any]) -> str:
    """The table of `throughput`, and where a training step and an `iw_nll` call spend their time and wait."""
    parts = ["### Speed on a GPU", throughput(report)] if report["records"] else ["### Speed on a GPU"]
    for name, profile in report.get("profile", {}).items():
        idle = profile["milliseconds"] - profile["device_milliseconds"]
        waits = ", ".join(f"{place} ({count})" for place, count in profile["waits"].items()) or "none"
        told = (
            f"One {name} call of {report['size']['sentences']} sentences in bfloat16: {profile['milliseconds']:.1f} "
            f"ms, in which the device is idle for {max(0.0, idle):.1f} ms. Waits for the device: {waits}. The longest "
            "operations:"
        )
        rows = [
            [each["name"][:80], f"{each['milliseconds']:.2f}", f"{each['calls']:,}"]
            for each in profile["operations"][:10]
        ]
        parts += [told, markdown_table(["operation", "ms", "calls"], rows)]
    return "\n\n".join(parts + _errors(report))


def pretraining(report: dict[str, Any]) -> str:
    """What a training step with the unigram decoder takes of one with the LSTM."""
    seconds = {(each["precision"], each["work"]): each["seconds"] for each in report["records"]}
    told = [
        f"{seconds[precision, 'train, unigram']:.2f} s in place of {whole:.2f} s in {precision} "
        f"({seconds[precision, 'train, unigram'] / whole:.0%})"
        for (precision, work), whole in seconds.items()
        if work == "train"
    ]
    machine = report["machine"]
    of = f"{machine['processor']}, {_threads(machine)}, torch {machine['torch']}"
    return f"A training step of a pretraining, with the unigram decoder: {' and '.join(told)}; {of}."


def costs(report: dict[str, Any]) -> str:
    """What an update and an evaluation of each system take, as multiples of the first one's."""
    machine, seconds = report["machine"], report["seconds"]
    told = (
        f"Median (lowest to highest) of {report['rounds']} rounds in turn, of {report['updates']} updates each: "
        f"{report['corpus']}, batches of {report['batch_size']}, {report['validation']:,} validation texts. "
        f"{report['rows'][0]['title']} takes {1000 * seconds['update']:.0f} ms an update and "
        f"{seconds['evaluation']:.2f} s an evaluation; "
        f"{machine['processor']}, {_threads(machine)}, torch {machine['torch']}."
    )
    rows = [[each["title"], *(_times(each[part]) for part in ("update", "evaluation"))] for each in report["rows"]]
    return told + "\n\n" + markdown_table(["system", "update", "evaluation"], rows)


def _times(ratio: Mapping[str, float]) -> str:
    return "{median:.2f} ({lowest:.2f} to {highest:.2f})".format(**ratio)


def gpu_correctness(report: dict[str, Any]) -> str:
    """Every check of a GPU against the CPU, with what it may differ by."""
    told = (
        f"{report['machine']['processor']}, torch {report['machine']['torch']}. Differences are relative to the CPU's "
        "float32, of the parity fixture absolute; words are the share of those that differ."
    )
    rows = [
        [
            check.replace("_", " "), finding["what"], finding["precision"], f"{finding['difference']:.1e}",
            f"{finding['tolerance']:.0e}", "yes" if finding["ok"] else "**no**",
        ]
        for check, findings in report.items() if isinstance(findings, list) for finding in findings
    ]  # fmt: skip
    titles = ["check", "of", "precision", "difference", "may be", "holds"]
    parts = ["### Correctness on a GPU", told, markdown_table(titles, rows, text_columns=3)]
    return "\n\n".join(parts + _errors(report))


def _errors(report: Mapping[str, Any]) -> list[str]:
    return [f"Not measured: {name} ({error})." for name, error in report.get("errors", {}).items()]


def memory(report: dict[str, Any]) -> str:
    """The peak of each phase, for each size of the text, when caches are made and when they are there."""
    sizes = ", ".join(f"{text['text_mb']} MB of text are {text['sentences']:,} sentences" for text in report["texts"])
    told = (
        f"{sizes}; a tiny model, {report['settings']['updates']} updates; each row a phase of one process. Anonymous "
        "memory is what the program holds; resident memory also counts pages of mapped files, which the system drops "
        "when it needs the room. `first` makes the caches, `again` finds them."
    )
    rows = [
        [
            str(record["text_mb"]), record["run"], record["phase"],
            f"{record['anonymous_mb']:,.0f}", f"{record['resident_mb']:,.0f}",
        ]
        for record in report["records"]
    ]  # fmt: skip
    return (
        f"{told}\n\n{markdown_table(['text MB', 'run', 'phase', 'anonymous MB', 'resident MB'], rows, text_columns=3)}"
    )


def reading(report: dict[str, Any]) -> str:
    """What each version took for each phase of reading the same text, and how many times as fast the last one is."""
    names = list(dict.fromkeys(record["name"] for record in report["records"]))
    by_phase: dict[str, dict[str, Any]] = {}
    for record in report["records"]:
        by_phase.setdefault(record["phase"], {})[record["name"]] = record
    rows = []
    for phase, found in by_phase.items():
        last = found[names[-1]]
        rates = [f"{last[of] / max(last['seconds'], 0.01):,.0f}" for of in ("documents", "words")]
        seconds = [f"{found[name]['seconds']:.2f}" for name in names]
        rows.append([phase, *seconds, *rates, f"{found[names[0]]['seconds'] / max(last['seconds'], 0.01):.1f}"])
    whole = by_phase["together"][names[-1]]
    told = f"{whole['documents']:,} documents of {whole['text']}, {whole['words']:,} words; seconds of one processor."
    titles = ["phase", *(f"{name}, seconds" for name in names), "documents/s", "words/s", "times as fast"]
    return f"{told}\n\n{markdown_table(titles, rows)}"


def serving(report: dict[str, Any]) -> str:
    """What one text, a batch and many texts cost in each way of encoding, and the memory of a process."""
    machine = report["machine"]
    told = (
        f"`{report['model']}`, {report['texts']:,} sentences of {report['tokens']:.0f} tokens on average, mean and "
        f"variance; {machine['processor']}, {_threads(machine)}, torch {machine['torch']}. Tokenisation is included. "
        "Relative: the root mean square difference of the means, over their standard deviation across texts."
    )
    rows = []
    for record in report["records"]:
        times = [f"{record['one_ms']:.2f}", f"{record['one_p99_ms']:.2f}", f"{record['batch_ms']:.1f}"]
        difference = f"{record['difference']:.0e}" if record["difference"] else "0"
        relative = f"{record['relative']:.1e}" if record["relative"] else "0"
        many = [f"{record['texts_per_second']:,.0f}", f"{record['resident_mb']:,.0f}", difference, relative]
        rows.append([record["way"], *times, *many])
    titles = ["", "one text, ms", "99% below, ms", "batch of 32, ms", "texts/s", "memory, MB"]
    titles += ["largest difference", "of means, relative"]
    return f"{told}\n\n{markdown_table(titles, rows)}"


def time_to_quality(report: dict[str, Any]) -> str:
    """What an update costs either recipe, and when the fast one is as good as the paper's, for each seed."""
    machine, measured, paper = report["machine"], report["measured"], report["paper"]
    paper_cost, fast_cost = (measured["costs"][side] for side in ("paper", "fast"))
    lowest, highest = measured["ratios"]
    reached = [run["reached"] for run in report["fast"] if run["reached"]]
    shares = [point["seconds"] / paper["seconds"] for point in reached]
    kept = sum(all(point[key] >= 0.9 * paper[key] for key in ("kl", "au")) for point in reached)
    told = (
        f"{report['title']} on {report['corpus']}, hidden {report['model']['hidden_size']}; {machine['processor']}, "
        f"{_threads(machine)}, torch {machine['torch']}. An update: {paper_cost['update']:.3f} s by the "
        f"paper's recipe, {fast_cost['update']:.3f} s by the fast one, {measured['ratio']:.2f} of it ({lowest:.2f} "
        f"to {highest:.2f} in {measured['rounds']} rounds of {measured['updates']} updates); an evaluation: "
        f"{paper_cost['evaluation']:.1f} s and {fast_cost['evaluation']:.1f} s. Within {report['band']:g} nats of the "
        f"paper's best bound: {len(reached)} of {len(report['fast'])} seeds"
        + (f", in {_percent(shares)} of its time" if shares else "")
        + f"; with at least 90% of its KL and active units: {kept}."
    )
    rows = [_point("paper", run["seed"], "its best", run, paper) for run in paper["runs"]]
    for run in report["fast"]:
        rows.append(_point("fast", run["seed"], f"within {report['band']:g} nats", run["reached"], paper))
        rows.append(_point("fast", run["seed"], "its best", run["best"], paper))
    titles = ["recipe", "when", "seed", "epoch", "minutes", "of the paper's", "-ELBO", "KL", "AU"]
    return f"{told}\n\n{markdown_table(titles, rows, text_columns=2)}"


def rare_words(report: dict[str, Any]) -> str:
    """Nats per sentence by how often a word occurs in the training set, a row for each run and split."""
    told = (
        f"{report['corpus']}, the first {report['sentences']:,} sentences of each set; nats per sentence with z at the "
        "mean of q(z|x), of the words that the training set has so many times."
    )
    edges = report["edges"]
    spans = [f"{low:,} to {high - 1:,}" for low, high in pairwise(edges)]
    rows = [
        [record["run"], record["split"], *(f"{nats:.1f}" for nats in record["nats"]), f"{sum(record['nats']):.1f}"]
        for record in report["records"]
    ]
    titles = ["recipe", "sentences", f"below {edges[0]}", *spans, f"{edges[-1]:,} or more", "all"]
    return f"{told}\n\n{markdown_table(titles, rows, text_columns=2)}"


def classifiers(reports: Sequence[Mapping[str, Any]]) -> str:
    """What classifiers read from encoders, corpus by corpus."""
    told = "KL: nats per sentence, of the encoder's own validation set. Standard errors: over the test documents."
    return "\n\n".join([*map(classifiers_on, reports), told])


def classifiers_on(report: Mapping[str, Any]) -> str:
    """The table of one corpus: what classifiers read, and what the encoder was trained on."""
    encoders = {described["title"]: described for described in report["encoders"]}
    columns = {
        "features": SUMMARY["features"], "trained_on": ("encoder trained on", "{}"), "kl": ("its KL", "{:.2f}"),
        **{key: column for key, column in SUMMARY.items() if key != "features"},
    }  # fmt: skip
    rows = [
        {**system, **{key: encoders.get(system["features"], {}).get(key) for key in ("trained_on", "kl")}}
        for system in report["systems"]
    ]
    return f"{caption(report)}\n\n{markdown(rows, columns)}"


def edits(reports: Sequence[Mapping[str, Any]]) -> str:
    """How far edits along labelled directions carry, a row for each checkpoint, direction and method."""
    first = reports[0]
    columns = {
        "checkpoint": ("Checkpoint", "{}"), "labels": ("Labels", "{}"), "method": ("Method", "{}"),
        "length": ("Length", "{:.2f}"), "auc": ("AUC", "{:.3f}"),
        **{f"at_{strength}": (f"Strength {strength}", "{}") for strength in first["strengths"]},
    }  # fmt: skip
    rows = []
    for report in reports:
        for row in report["rows"]:
            pairs = zip(report["strengths"], row["written"], strict=True)
            at = {f"at_{strength}": row["form"].format(value) for strength, value in pairs}
            rows.append({"checkpoint": f"`{report['checkpoint']}`", **row, **at})
    distances = " and ".join(f"{report['distance_from_origin']:.1f}" for report in reports)
    told = (
        f"Directions from {first['training_reviews']:,} training reviews, tried on the test set. AUC is that of the "
        "position along the direction between the two sides (0.5: no better than chance). The last columns are of the "
        f"first {first['edited']} reviews of the second side, edited towards the first: the mean length of what is "
        "written, or how much of it is positive to a TF-IDF classifier, which is right on "
        f"{first['judge_accuracy']:.1%} of the test reviews with one or five stars. The distance of centres from the "
        f"origin is {distances} on average."
    )
    return f"{markdown(rows, columns)}\n\n{told}"


def odd_texts(report: Mapping[str, Any]) -> str:
    """What odd texts cost, and how many usual ones cost less, a row for each model and text."""
    rows = []
    for record in report["records"]:
        cells = [record["run"], record["text"], f"{record['unknown']} of {record['tokens'] - 1}"]
        for by in ("nats_a_token", "bits_per_byte"):
            value, share, median = (record[name] for name in (by, f"share_{by}", f"median_{by}"))
            cells += ["–", "–"] if value is None else [f"{value:.2f} (median {median:.2f})", f"{share:.1%}"]
        rows.append(cells)
    titles = ["tokenizer", "text", "unknown", "nats a token", "more than", "bits per byte", "more than"]
    return markdown_table(titles, rows, text_columns=2)


def _point(recipe: str, seed: int, when: str, point: dict[str, Any] | None, paper: dict[str, Any]) -> list[str]:
    if point is None:
        return [recipe, when, str(seed), "never", *["–"] * 5]
    return [
        recipe, when, str(seed), str(point["epoch"]), f"{point['seconds'] / 60:.0f}",
        f"{point['seconds'] / paper['seconds']:.0%}", f"{point['bound']:.2f}", f"{point['kl']:.3f}", str(point["au"]),
    ]  # fmt: skip


def _percent(shares: Sequence[float]) -> str:
    lowest, highest = f"{min(shares):.0%}", f"{max(shares):.0%}"
    return lowest if lowest == highest else f"{lowest} to {highest}"


def _threads(machine: Mapping[str, Any]) -> str:
    return f"{machine['threads']} thread" + ("s" if machine["threads"] > 1 else "")


def _span(values: Sequence[float]) -> str:
    return f"{min(values):,.0f} to {max(values):,.0f}"


TABLES: dict[str, Callable[[Any], str]] = {
    "throughput": throughput,
    "pretraining": pretraining,
    "costs": costs,
    "gpu_correctness": gpu_correctness,
    "gpu_throughput": gpu_throughput,
    "memory": memory,
    "reading": reading,
    "serving": serving,
    "time_to_quality": time_to_quality,
    "time_to_quality_yelp": time_to_quality,
    "rare_words": rare_words,
    "classifiers": classifiers,
    "edits": edits,
    "odd_texts": odd_texts,
}
"""What is written between `<!-- NAME -->` and `<!-- end -->`, from docs/performance/NAME.json."""


def page(text: str) -> str:
    """The page with every table of its regions made anew that was measured."""
    for name, made in TABLES.items():
        measured = MEASURED / f"{name}.json"
        if measured.is_file() and f"<!-- {name} -->" in text:
            text = with_region(text, name, made(json.loads(measured.read_text("utf-8"))))
    return text


def write() -> None:
    """Bring the pages up to date."""
    for path in PAGES:
        path.write_text(page(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    write()
