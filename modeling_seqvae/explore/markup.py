"""HTML of the page. Whatever comes from texts or visitors is escaped here, and nowhere else made into markup."""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from ..evaluation.positions import PieceCost
from ..latent_space import Neighbour

MOST_NATS = 10.0
"""The cost of a word from which its colour no longer changes."""
MOST_TOLD = 4.0
"""The same of what z tells."""

COST, HELPS, MISLEADS = "230, 119, 0", "0, 114, 178", "204, 51, 85"
"""Colours, as red, green and blue."""


def sentences(listed: Iterable[str], numbered: bool = True) -> str:
    """A column of sentences."""
    tag = "ol" if numbered else "ul"
    return f'<{tag} class="sv-list">' + "".join(f"<li>{_shown(text)}</li>" for text in listed) + f"</{tag}>"


def path(listed: Sequence[str]) -> str:
    """Sentences in a column; in each, the words that the one before does not have are marked."""
    changed = [_shown(listed[0]), *(_changed(before, after) for before, after in pairwise(listed))]
    shares = [round(100 * i / max(1, len(listed) - 1)) for i in range(len(listed))]
    rows = zip(shares, changed, strict=True)
    return _table(("place", "sentence"), [(f"{share} %", text) for share, text in rows])


def steps(rows: Sequence[tuple[float, str]], heading: str) -> str:
    """Numbers and the sentences there; the words that the sentence before does not have are marked."""
    texts = [text for _, text in rows]
    changed = [_shown(texts[0]), *(_changed(before, after) for before, after in pairwise(texts))]
    return _table(
        (heading, "sentence"), [(_signed(value), text) for (value, _), text in zip(rows, changed, strict=True)]
    )


def neighbours(found: Sequence[Neighbour], labels: Sequence[str] | None) -> str:
    """Texts and their distances, nearest first."""
    headings = ("distance", "text") if labels is None else ("distance", "label", "text")
    rows = []
    for near in found:
        label = () if labels is None else (escape(labels[near.position]),)
        rows.append((f"{near.distance:.3f}", *label, _shown(near.text)))
    return _table(headings, rows)


def costs(pieces: Sequence[PieceCost], left_out: int = 0) -> str:
    """A text twice: each word coloured by its cost, and by what z tells of it; numbers appear under the pointer.

    `left_out` tokens at its end were not read, which is told.
    """
    nll, told = sum(piece.nll for piece in pieces), sum(piece.told for piece in pieces)
    unknown = sum(piece.unknown for piece in pieces)
    facts = f"<b>{nll:.1f}</b> nats in all, <b>{nll / len(pieces):.2f}</b> a token; z tells <b>{told:.1f}</b> of them"
    if unknown:
        facts += f"; <b>{unknown}</b> {'word is' if unknown == 1 else 'words are'} unknown to the model, and dotted"
    if left_out:
        facts += f"; the last <b>{left_out}</b> tokens were not read: the model reads no longer texts"
    lines = [
        ("-log p of each word, after the words before", [(piece, _cost(piece)) for piece in pieces]),
        ("what z tells of it: blue helps, red misleads", [(piece, _told(piece)) for piece in pieces]),
    ]
    shown = "".join(
        f'<p class="sv-caption">{escape(caption)}</p><p class="sv-words">{" ".join(_word(*word) for word in words)}</p>'
        for caption, words in lines
    )
    return f'<p class="sv-facts">{facts}</p>{shown}'


def facts(items: Iterable[tuple[str, str]]) -> str:
    """Figures and their names, side by side."""
    cells = (f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in items)
    return f'<div class="sv-figures">{"".join(cells)}</div>'


def note(text: str) -> str:
    """A remark, small."""
    return f'<p class="sv-note">{escape(text)}</p>' if text else ""


def plain(text: str) -> str:
    """Text as markup that shows it."""
    return escape(text)


def heading(title: str, subtitle: str) -> str:
    """The head of the page."""
    return f'<h1 class="sv-title">{escape(title)}</h1><p class="sv-note">{escape(subtitle)}</p>'


def _cost(piece: PieceCost) -> str:
    return f"rgba({COST}, {_strength(piece.nll, MOST_NATS):.2f})"


def _told(piece: PieceCost) -> str:
    return f"rgba({HELPS if piece.told >= 0 else MISLEADS}, {_strength(abs(piece.told), MOST_TOLD):.2f})"


def _strength(value: float, most: float) -> float:
    return min(max(value, 0.0) / most, 1.0) * 0.85


def _word(piece: PieceCost, colour: str) -> str:
    kind = ' class="sv-unknown"' if piece.unknown else ""
    told = f"{piece.nll:.2f} nats, of which z tells {piece.told:+.2f}"
    text = escape(piece.text) if piece.text else "&#9632;"  # the end
    return f'<span{kind} style="background: {colour}" title="{told}">{text}</span>'


def _changed(before: str, after: str) -> str:
    known = set(before.split())
    words = (f"<mark>{_shown(word)}</mark>" if word not in known else _shown(word) for word in after.split())
    return " ".join(words) or _shown("")


def _signed(value: float) -> str:
    return f"{value:+.1f}" if abs(value * 10 - round(value * 10)) < 1e-6 else f"{value:+.2f}"


def _shown(text: str) -> str:
    return escape(text) if text else "<i>no words</i>"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are markup already."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="sv-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
