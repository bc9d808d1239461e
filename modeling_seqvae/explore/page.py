"""The page in the browser, of Gradio's components (`pip install 'seqvae[explore]'`): layout alone.

What the components show comes from an Explorer, which bounds what visitors ask for, and from `markup`, which escapes
it.
"""

import os
import socket
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..argument_checks import optional
from ..evaluation.drawing import CURVES
from ..evaluation.projection import TITLES, installed_projections
from ..latent_space import DIRECTIONS, PATHS
from ..text_batches import token_ids
from . import markup
from .explorer import FARTHEST, LONGEST, MOST_NEIGHBOURS, MOST_SENTENCES, MOST_STEPS, Explorer, colour_range

HERE = Path(__file__).resolve().parent
PRIORS = [("the prior p(z)", "model"), ("the aggregated posterior", "aggregate")]
MOST_CLASSES = 8
"""Labels with a colour of their own; the others share one."""
TITLES_OF_CURVES = ("-ELBO and its parts", "what z holds")
COLOURS = ("#0072B2", "#D55E00")
BARS = 16
"""Dimensions that are drawn; the rest hold less."""
MAP = '<div class="sv-map"><canvas></canvas><div class="sv-tip" hidden></div></div><div class="sv-legend"></div>'


def require_gradio() -> Any:
    """Gradio, without its analytics. Raises ModuleNotFoundError that says what to install."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before it is imported
    os.environ.setdefault("GRADIO_RUN_HISTORY", "False")
    return optional("gradio", "the page needs Gradio: pip install 'seqvae[explore]'")


def launch(explorer: Explorer, host: str | None = "127.0.0.1", port: int | None = None, **options: Any) -> Any:
    """Serve the page until the process ends, or with `prevent_thread_lock=True` in the background; what launch gives.

    It listens on `host` alone, and gives no files, takes none and calls nobody. A host of None is what the environment
    of a Space says, else 127.0.0.1; a port of None is the first that is free from 7860 on. Raises ValueError for a host
    that is no address of this machine.
    """
    gr = require_gradio()
    if host is not None:
        _require_own(host)
    made = page(explorer)
    made.queue(max_size=64)
    return made.launch(
        server_name=host,
        server_port=port,
        share=False,
        ssr_mode=False,
        show_error=False,
        max_file_size=1,  # the route for uploads is there whether a component needs it or not
        footer_links=["api"],
        theme=gr.themes.Default(
            primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css=(HERE / "page.css").read_text("utf-8"),
        **options,
    )


def _require_own(host: str) -> None:
    """Gradio would try a hundred ports, and say that none is free."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listening:
            listening.bind(place)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{host!r} is no address of this machine that one can listen on ({error})") from None


def page(explorer: Explorer) -> Any:
    """The page as Gradio's Blocks."""
    gr = require_gradio()
    tabs = {"Between": _between_tab, "Traverse": _traverse_tab, "Edit": _edit_tab, "Score": _score_tab}
    if len(explorer.classes()) < 2:
        del tabs["Edit"]
    with gr.Blocks(title=f"{explorer.title} – seqvae", analytics_enabled=False) as made:
        gr.HTML(_head(explorer))
        with gr.Tab("Map", id="map"):
            choose = _map_tab(gr, explorer, made)
        with gr.Tab("Write", id="write"):
            _write_tab(gr, explorer)
        texts = []
        for name, lay_out in tabs.items():
            with gr.Tab(name, id=name.lower()) as tab:
                texts.append(lay_out(gr, explorer, tab))
        if explorer.history:
            with gr.Tab("Training", id="training"):
                _training_tab(gr, explorer)
        choose(texts)
    return made


def _head(explorer: Explorer) -> str:
    kl = explorer.dimensions.kl
    shown = f"{len(explorer.texts):,} texts"
    if explorer.left_out:
        shown += f" of {len(explorer.texts) + explorer.left_out:,}, drawn at random"
    figures = [
        ("–" if kl is None else f"{kl.sum():.2f}", "nats in z, the KL"),
        (f"{explorer.active} of {len(explorer.dimensions.variance)}", "dimensions active"),
        (f"{explorer.vae.model.config.vocab_size:,}", "tokens in the vocabulary"),
    ]
    source = f"{shown}: {explorer.source}" if explorer.source else shown
    return markup.heading(explorer.title, source) + markup.facts(figures)


def _told(gr: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose refusals are shown to the visitor."""

    @wraps(function)
    def telling(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (ValueError, ModuleNotFoundError) as error:
            raise gr.Error(markup.plain(str(error)), print_exception=False) from None

    return telling


def _map_tab(gr: Any, explorer: Explorer, made: Any) -> Callable[[Sequence[Any]], None]:
    """The map and the neighbours; the function returned takes the textboxes of other tabs, where choices go, too."""
    methods = [(TITLES[name], name) for name in installed_projections()]
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=420):
            drawn = gr.HTML(html_template=MAP, js_on_load=(HERE / "map.js").read_text("utf-8"), elem_id="map", near=[])
        with gr.Column(scale=2, min_width=320):
            with gr.Row():
                method = gr.Radio(methods, value="pca", label="Map", elem_id="map-method")
                colours = list(explorer.colours)
                colour = gr.Dropdown(colours, value=colours[0], label="Colour", elem_id="map-colour")
            text = _sentence(gr, "A text: click a point, or write one", "map-text")
            count = gr.Slider(1, MOST_NEIGHBOURS, 8, step=1, label="Neighbours")
            look = gr.Button("Find its neighbours", variant="primary", elem_id="map-go")
            found = gr.HTML(elem_id="neighbours")

    def draw(method: Any, colour: Any) -> Any:
        return map_value(explorer, method, colour)

    def neighbours(text: Any, count: Any) -> tuple[Any, str]:
        return shown(explorer.neighbours(text, count))

    def shown(near: Sequence[Any]) -> tuple[Any, str]:
        return gr.HTML(near=[one.position for one in near]), markup.neighbours(near, explorer.labels)

    for trigger, name in ((made.load, "map"), (method.change, False), (colour.change, False)):
        trigger(_told(gr, draw), [method, colour], drawn, api_name=name)
    for trigger, name in ((look.click, "neighbours"), (text.submit, False)):
        trigger(_told(gr, neighbours), [text, count], [drawn, found], api_name=name)

    def choose(texts: Sequence[Any]) -> None:
        def chosen(count: Any, event: gr.EventData) -> Any:
            point = getattr(event, "index", None)
            near, one = explorer.neighbours_at(point, count), explorer.text_at(point)[:LONGEST]
            return (*shown(near), one, *[one] * len(texts))

        drawn.select(_told(gr, chosen), count, [drawn, found, text, *texts], api_name=False)

    return choose


def map_value(explorer: Explorer, method: Any, colour: Any) -> dict[str, Any]:
    """What map.js draws."""
    places, values = explorer.places(method), explorer.coloured(colour)
    told = [f"{colour}: {value}" if isinstance(value, str | int) else f"{colour}: {value:.2f}" for value in values]
    if explorer.labels is not None and colour != "label":
        told = [f"{one} · label: {label}" for one, label in zip(told, explorer.labels, strict=True)]
    shown = {
        "map": method,
        "by": colour,
        "x": places[:, 0].round(4).tolist(),
        "y": places[:, 1].round(4).tolist(),
        "texts": explorer.texts,
        "told": told,
    }
    if colour == "label":
        own, rest = explorer.coloured_classes(MOST_CLASSES)
        number = {name: i for i, name in enumerate(own)} | dict.fromkeys(rest, MOST_CLASSES)
        legend = [*own, f"{len(rest)} others"] if rest else own
        return shown | {"colours": [number[label] for label in explorer.labels or ()], "legend": legend}
    low, high = colour_range(values)
    shares = np.clip((np.array(values, float) - low) / max(high - low, 1e-9), 0, 1)
    return shown | {"colours": shares.round(3).tolist(), "scale": [f"{low:.3g}", f"{high:.3g}"]}


def _write_tab(gr: Any, explorer: Explorer) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            prior = gr.Radio(PRIORS, value="model", label="z from")
            prompt = _sentence(gr, "Begin with", "write-prompt", placeholder="nothing, or some words")
            count = gr.Slider(1, MOST_SENTENCES, 10, step=1, label="Sentences")
            temperature = gr.Slider(0.1, 2.0, 0.7, step=0.05, label="Temperature: below 1 more likely words")
            top_p = gr.Slider(0.05, 1.0, 1.0, step=0.05, label="Top-p: of the most likely words, so much")
            seed = gr.Textbox(
                label="Seed",
                placeholder="the same gives the same; empty: new ones",
                max_length=16,
                elem_id="write-seed",
            )
            go = gr.Button("Write", variant="primary", elem_id="write-go")
        with gr.Column(scale=3, min_width=420):
            written = gr.HTML(markup.note("Press Write for new sentences."), elem_id="written")

    def write(prior: Any, prompt: Any, count: Any, temperature: Any, top_p: Any, seed: Any) -> str:
        return markup.sentences(explorer.write(count, prior, temperature, top_p, prompt, seed))

    go.click(_told(gr, write), [prior, prompt, count, temperature, top_p, seed], written, api_name="write")


def _between_tab(gr: Any, explorer: Explorer, tab: Any) -> Any:
    examples = _examples(explorer)
    with gr.Row():
        start = _sentence(gr, "From", "between-start", value=examples[0])
        end = _sentence(gr, "To", "between-end", value=examples[1])
    with gr.Row():
        kind = gr.Radio(list(PATHS), value="linear", label="Path")
        steps = gr.Slider(3, MOST_STEPS, 7, step=1, label="Sentences")
    go = gr.Button("Write the way", variant="primary", elem_id="between-go")
    way = gr.HTML(elem_id="way")
    place = gr.Slider(0, 100, 50, step=1, label="Or stop at one place, in percent of the way", elem_id="between-place")
    there = gr.HTML(elem_id="there")

    def between(start: Any, end: Any, steps: Any, kind: Any) -> str:
        return markup.path(explorer.between(start, end, steps, kind))

    def at(start: Any, end: Any, place: Any, kind: Any) -> str:
        share = place / 100 if isinstance(place, int | float) else place
        return markup.sentences([explorer.at(start, end, share, kind)], numbered=False)

    for trigger, name in ((go.click, "between"), (tab.select, False)):
        trigger(_told(gr, between), [start, end, steps, kind], way, api_name=name)
    place.release(_told(gr, at), [start, end, place, kind], there, api_name="at", show_progress="hidden")
    return start


def _traverse_tab(gr: Any, explorer: Explorer, tab: Any) -> Any:
    dimensions = explorer.dimensions
    kl = dimensions.kl
    figures = dimensions.variance if kl is None else kl
    measured = "variance of the means" if kl is None else "nats"
    names = [(f"{i} – {figures[i]:.2f} {measured}", i) for i in dimensions.order]
    first = dimensions.order[:BARS]
    shown = pd.DataFrame({"dimension": [str(i) for i in first], measured: figures[first]})
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            gr.BarPlot(
                shown,
                x="dimension",
                y=measured,
                sort=list(shown["dimension"]),
                title="What each dimension holds",
                height=220,
                elem_id="dimensions",
            )
            gr.HTML(markup.note(_measures(explorer)))
            number = gr.Dropdown(names, value=dimensions.order[0], label="Dimension, most informative first")
            text = _sentence(
                gr, "Around this text", "traverse-text", placeholder="empty: around the middle of the prior"
            )
            reach = gr.Slider(1, FARTHEST, 3, step=0.5, label="How far to either side, in the prior's deviations")
            steps = gr.Slider(3, MOST_STEPS, 9, step=1, label="Sentences")
            go = gr.Button("Write", variant="primary", elem_id="traverse-go")
        with gr.Column(scale=3, min_width=420):
            column = gr.HTML(elem_id="traversed")

    def traverse(text: Any, number: Any, reach: Any, steps: Any) -> str:
        return markup.steps(explorer.traverse(text, number, reach, steps), f"z {number}")

    for trigger, name in ((go.click, "traverse"), (number.input, False), (tab.select, False)):
        trigger(_told(gr, traverse), [text, number, reach, steps], column, api_name=name)
    return text


def _measures(explorer: Explorer) -> str:
    """A sentence on how far the labels sit in one dimension."""
    found = explorer.disentanglement()
    if not found:
        return ""
    first, second = (found["factors"]["label"]["dimensions"] + [None])[:2]
    most = f"Of the labels dimension {first} tells most" + ("" if second is None else f", then {second}")
    return f"{most}. MIG {found['mig']:.2f}, SAP {found['sap']:.2f}: 1 if one dimension alone held them, 0 if many do."


def _edit_tab(gr: Any, explorer: Explorer, tab: Any) -> Any:
    classes = explorer.classes()
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            text = _sentence(gr, "The text", "edit-text", value=_examples(explorer)[0])
            with gr.Row():
                away = gr.Dropdown([("all others", ""), *classes], value=classes[0], label="Away from")
                towards = gr.Dropdown(classes, value=classes[-1], label="Towards")
            method = gr.Radio(list(DIRECTIONS), value="means", label="Direction by")
            reach = gr.Slider(0.5, FARTHEST, 3, step=0.5, label="How far, in multiples of the direction")
            steps = gr.Slider(3, MOST_STEPS, 7, step=1, label="Sentences")
            go = gr.Button("Edit", variant="primary", elem_id="edit-go")
        with gr.Column(scale=3, min_width=420):
            edited = gr.HTML(elem_id="edited")

    def edit(text: Any, towards: Any, away: Any, method: Any, reach: Any, steps: Any) -> str:
        return markup.steps(explorer.edit(text, towards, away, method, reach, steps), "strength")

    for trigger, name in ((go.click, "edit"), (tab.select, False)):
        trigger(_told(gr, edit), [text, towards, away, method, reach, steps], edited, api_name=name)
    return text


def _score_tab(gr: Any, explorer: Explorer, tab: Any) -> Any:
    text = _sentence(gr, "The text", "score-text", value=_examples(explorer)[0])
    go = gr.Button("Score", variant="primary", elem_id="score-go")
    scored = gr.HTML(elem_id="scored")

    def score(text: Any) -> str:
        return markup.costs(*explorer.costs(text))

    for trigger, name in ((go.click, "score"), (text.submit, False), (tab.select, False)):
        trigger(_told(gr, score), text, scored, api_name=name)
    return text


def _training_tab(gr: Any, explorer: Explorer) -> None:
    with gr.Row():
        for title, lines in zip(TITLES_OF_CURVES, CURVES, strict=True):
            rows = [
                {"epoch": str(record["epoch"]), "nats per sentence": record[key], "figure": name}
                for key, name in lines.items()
                for record in explorer.history
                if record.get(key) is not None
            ]
            gr.LinePlot(
                pd.DataFrame(rows),
                x="epoch",
                y="nats per sentence",
                sort=[str(record["epoch"]) for record in explorer.history],
                color="figure",
                color_map=dict(zip(lines.values(), COLOURS, strict=True)),
                title=f"{title}, validation set",
                height=320,
            )
    best = explorer.best or min(explorer.history, key=lambda record: record["bound"])
    gr.HTML(
        markup.facts(
            (f"{best[key]:.2f}", f"{name}, epoch {best['epoch']}")
            for lines in CURVES
            for key, name in lines.items()
            if best.get(key) is not None
        )
    )


def _examples(explorer: Explorer) -> tuple[str, str]:
    """Two texts of middling length whose words are known, far apart on the map."""
    unknown = explorer.vae.tokenizer.unk_token_id
    usual = np.quantile(explorer.lengths, [0.3, 0.7])
    usual_ones = [
        i
        for i, length in enumerate(explorer.lengths)
        if usual[0] <= length <= usual[1] and len(explorer.texts[i]) <= LONGEST
    ]
    read = token_ids([explorer.texts[i] for i in usual_ones], explorer.vae.tokenizer)
    fit = [i for i, ids in zip(usual_ones, read, strict=True) if unknown not in ids] or [0]
    across = explorer.places("pca")[fit, 0]
    return explorer.texts[fit[int(across.argmin())]], explorer.texts[fit[int(across.argmax())]]


def _sentence(gr: Any, label: str, name: str, **options: Any) -> Any:
    return gr.Textbox(label=label, elem_id=name, max_length=LONGEST, lines=1, max_lines=4, **options)
