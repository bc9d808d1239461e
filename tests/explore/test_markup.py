"""What comes from texts and visitors is shown, and never becomes markup."""

from html.parser import HTMLParser

import pytest

from modeling_seqvae.evaluation.positions import PieceCost
from modeling_seqvae.explore import markup
from modeling_seqvae.latent_space import Neighbour

EVIL = "<script>alert('1')</script> & \"good\" <img src=x onerror=alert(1)>"
KNOWN = {"table", "thead", "tbody", "tr", "th", "td", "ol", "ul", "li", "p", "b", "i", "span", "div", "mark", "h1"}


class Seen(HTMLParser):
    """The elements and the text of markup."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


MADE = {
    "sentences": markup.sentences([EVIL, "fine"]),
    "one sentence": markup.sentences([EVIL], numbered=False),
    "path": markup.path(["fine", EVIL, EVIL]),
    "steps": markup.steps([(-1.0, EVIL), (0.25, "fine"), (1.0, EVIL)], EVIL),
    "neighbours": markup.neighbours([Neighbour(0, EVIL, 0.5)], [EVIL]),
    "unlabelled": markup.neighbours([Neighbour(0, EVIL, 0.5)], None),
    "costs": markup.costs([PieceCost(EVIL, 3.0, -1.0, True), PieceCost("", 0.1, 0.0, False)]),
    "facts": markup.facts([(EVIL, EVIL)]),
    "note": markup.note(EVIL),
    "heading": markup.heading(EVIL, EVIL),
    "plain": markup.plain(EVIL),
}


@pytest.mark.parametrize("name", MADE)
def test_markup_in_texts_is_text(name: str) -> None:
    seen = Seen(MADE[name])
    assert seen.tags <= KNOWN and seen.attributes <= {"class", "style", "title"}
    assert EVIL.replace(" ", "") in seen.text.replace(" ", "").replace("\n", "")


def test_words_that_are_new_are_marked() -> None:
    assert markup.path(["a b", "a c"]).count("<mark>") == 1 and "<mark>c</mark>" in markup.path(["a b", "a c"])
    assert "no words" in markup.sentences([""])
    assert "+0.25" in MADE["steps"] and "-1.0" in MADE["steps"]


def test_colours_follow_costs_and_say_which_way_z_works() -> None:
    def shade(nll: float, told: float) -> list[str]:
        return [part.split('"')[1] for part in markup.costs([PieceCost("word", nll, told, False)]).split("<span")[1:]]

    dear, cheap = shade(9.0, 0.0)[0], shade(1.0, 0.0)[0]
    assert float(dear.rpartition(",")[2].strip(" )")) > float(cheap.rpartition(",")[2].strip(" )"))
    assert shade(99.0, 0.0) == shade(999.0, 0.0) and shade(1.0, 2.0)[1] != shade(1.0, -2.0)[1]
    assert markup.HELPS in shade(1.0, 2.0)[1] and markup.MISLEADS in shade(1.0, -2.0)[1]
    assert "<b>1</b> word is unknown" in MADE["costs"] and "not read" not in MADE["costs"]
    assert "the last <b>3</b> tokens were not read" in markup.costs([PieceCost("word", 1.0, 0.0, False)], 3)
