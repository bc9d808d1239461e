"""The page in a real browser: type, click, read sentences. Without one the tests say so and are left out."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modeling_seqvae.explore.explorer import Explorer
from modeling_seqvae.explore.page import launch

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
if BROWSER is None:
    pytest.skip(f"there is no browser here: none of {', '.join(BROWSERS)}", allow_module_level=True)

TEXT = "this bistro was lovely ."
SECONDS = 30_000


@pytest.fixture(scope="module")
def server(explorer: Explorer) -> Iterator[str]:
    found = launch(explorer, port=None, prevent_thread_lock=True, quiet=True)
    yield found[1]
    found[0].blocks.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def tab(browser: Any, server: str) -> Iterator[Any]:
    """A fresh visitor; requests to anywhere else are cut off, and neither they nor errors of scripts are let pass."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(SECONDS)
    strayed: list[str] = []
    failed: list[str] = []

    def only_here(route: Any) -> None:
        if route.request.url.startswith((server, "data:", "blob:")):
            route.continue_()
        else:
            strayed.append(route.request.url)
            route.abort()

    page.route("**/*", only_here)
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(server)
    page.wait_for_function("document.querySelector('#map canvas')?.placeOf?.(0).every(Number.isFinite)")
    yield page
    evil = page.evaluate("window.evil")
    page.close()
    assert (strayed, failed, evil) == ([], [], None)


def at_point(page: Any, number: int) -> tuple[float, float]:
    """Where a point of the map is, in pixels of the window."""
    box = page.locator("#map canvas").bounding_box()
    x, y = page.evaluate("number => document.querySelector('#map canvas').placeOf(number)", number)
    return box["x"] + x, box["y"] + y


def open_tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def ask(page: Any, fields: dict[str, str], button: str, answered: Callable[[], Any]) -> None:
    """Fill the fields, press the button and wait for the answer.

    All of it again, twice at most, where none comes in ten seconds: what is typed and pressed while Gradio draws a tab
    for the first time can be lost, on a busy machine.
    """
    page.set_default_timeout(SECONDS / 3)
    for last in (False, False, True):
        for name, text in fields.items():
            page.locator(f"#{name} textarea, #{name} input").first.fill(text)
        page.locator(f"#{button}").click()
        try:
            answered()
            break
        except playwright.TimeoutError:
            if last:
                raise
    page.set_default_timeout(SECONDS)


def loneliest(explorer: Explorer) -> int:
    """The point farthest from all others, which the pointer cannot miss; not the first text."""
    places = explorer.places()
    apart = ((places[:, None] - places) ** 2).sum(-1)
    apart[range(len(places)), range(len(places))] = apart.max()
    apart[0] = 0
    return int(apart.min(1).argmax())


def test_a_point_shows_its_text_and_a_click_chooses_it_for_every_tab(tab: Any, explorer: Explorer) -> None:
    number = loneliest(explorer)
    tab.mouse.move(*at_point(tab, number))
    tab.wait_for_selector(".sv-tip:not([hidden])")
    assert explorer.texts[number] in tab.locator(".sv-tip").inner_text()
    assert f"label: {explorer.labels[number]}" in tab.locator(".sv-tip").inner_text()
    tab.mouse.down()
    tab.mouse.up()
    tab.wait_for_selector("#neighbours tbody tr")
    near = explorer.neighbours(explorer.texts[number])
    rows = tab.locator("#neighbours tbody tr td:last-child").all_inner_texts()
    assert rows == [" ".join(one.text.split()) for one in near]
    assert tab.locator("#map-text textarea").input_value() == explorer.texts[number]
    for name, box in (("Between", "start"), ("Traverse", "text"), ("Edit", "text"), ("Score", "text")):
        open_tab(tab, name)
        assert tab.locator(f"#{name.lower()}-{box} textarea").input_value() == explorer.texts[number]


def test_a_text_that_is_markup_is_only_shown(tab: Any, explorer: Explorer) -> None:
    evil = explorer.texts[0]
    ask(tab, {"map-text": evil}, "map-go", lambda: tab.wait_for_selector("#neighbours tbody tr"))
    assert tab.locator("#neighbours tbody tr td:last-child").first.inner_text() == evil
    tab.mouse.move(*at_point(tab, 0))
    tab.wait_for_timeout(300)
    open_tab(tab, "Score")
    scored = "document.querySelector('#scored')?.innerText.includes('script')"
    ask(tab, {"score-text": evil}, "score-go", lambda: tab.wait_for_function(scored))
    ask(tab, {"score-text": ""}, "score-go", tab.get_by_text("the text is empty: write a sentence").wait_for)
    assert tab.locator("#map img, #neighbours img, #scored img").count() == 0


def test_the_map_changes_colour_and_kind(tab: Any, explorer: Explorer) -> None:
    assert tab.locator(".sv-legend").inner_text().split() == ["label", *explorer.classes()]
    tab.locator("#map-colour input").click()
    tab.get_by_role("option", name="length").click()
    tab.wait_for_selector(".sv-legend .sv-bar")
    before = at_point(tab, 5)
    tab.locator("#map-method").get_by_text("t-SNE").click()
    tab.wait_for_function(
        "before => JSON.stringify(document.querySelector('#map canvas').placeOf(5)) !== before",
        arg=tab.evaluate("JSON.stringify(document.querySelector('#map canvas').placeOf(5))"),
    )
    assert at_point(tab, 5) != before


def test_sentences_are_written_from_the_visitor_s_seed_and_prompt(tab: Any, explorer: Explorer) -> None:
    open_tab(tab, "Write")
    fields = {"write-prompt": "we had", "write-seed": "5"}
    ask(tab, fields, "write-go", lambda: tab.wait_for_selector("#written li"))
    expected = explorer.write(10, "model", 0.7, 1.0, "we had", 5)
    assert tab.locator("#written li").all_inner_texts() == expected


def test_the_way_between_two_texts_is_read_and_the_slider_stops_on_it(tab: Any, explorer: Explorer) -> None:
    open_tab(tab, "Between")
    tab.get_by_label("spherical").check()
    expected = explorer.between(TEXT, "our room was cold .", 7, "spherical")
    begun = "first => document.querySelector('#way tbody td:last-child')?.innerText === first"
    fields = {"between-start": TEXT, "between-end": "our room was cold ."}
    ask(tab, fields, "between-go", lambda: tab.wait_for_function(begun, arg=expected[0]))
    assert tab.locator("#way tbody td:last-child").all_inner_texts() == expected
    slider = tab.locator("#between-place input[type=range]")
    slider.focus()
    slider.press("End")
    slider.dispatch_event("pointerup")
    tab.wait_for_function("last => document.querySelector('#there li')?.innerText === last", arg=expected[-1])


def test_a_dimension_is_traversed_and_a_text_edited(tab: Any, explorer: Explorer) -> None:
    open_tab(tab, "Traverse")
    first = explorer.dimensions.order[0]
    tab.wait_for_selector("#traversed tbody tr")
    assert tab.locator("#traversed th").first.inner_text() == f"z {first}"
    expected = [sentence for _, sentence in explorer.traverse("", first, 3, 9)]
    assert tab.locator("#traversed tbody td:last-child").all_inner_texts() == expected
    open_tab(tab, "Edit")
    expected = [sentence for _, sentence in explorer.edit(TEXT, "5", "1", "means", 3, 7)]
    ended = "last => [...document.querySelectorAll('#edited tbody td:last-child')].at(-1)?.innerText === last"
    ask(tab, {"edit-text": TEXT}, "edit-go", lambda: tab.wait_for_function(ended, arg=expected[-1]))
    assert tab.locator("#edited tbody td:last-child").all_inner_texts() == expected


def test_words_are_coloured_by_cost_and_training_is_drawn(tab: Any, explorer: Explorer) -> None:
    open_tab(tab, "Score")
    text = {"score-text": "this xyzzy was lovely ."}
    ask(tab, text, "score-go", lambda: tab.wait_for_selector("#scored .sv-unknown"))
    words = tab.locator("#scored .sv-words").first.locator("span").all_inner_texts()
    assert words[:5] == ["this", "xyzzy", "was", "lovely", "."]
    open_tab(tab, "Training")
    tab.wait_for_function("document.querySelectorAll('[role=tabpanel] canvas, [role=tabpanel] svg.marks').length >= 2")
    assert "27.00" in tab.locator("body").inner_text()  # -ELBO of the best epoch


def test_thousands_of_points_are_drawn_within_a_blink(tab: Any) -> None:
    """5,000 of them, redrawn on every move of a drag."""
    tab.evaluate(
        """() => {
            const random = () => Array.from({length: 5000}, () => Math.random());
            const canvas = document.querySelector("#map canvas");
            canvas.show({map: "many", by: "length", x: random(), y: random(), colours: random(),
                         texts: Array(5000).fill("a text"), told: Array(5000).fill("length: 1"), scale: ["0", "1"]});
        }"""
    )
    box = tab.locator("#map canvas").bounding_box()
    tab.mouse.move(box["x"] + 100, box["y"] + 100)
    tab.mouse.down()
    took = tab.evaluate(
        """async () => {
            const canvas = document.querySelector("#map canvas"), times = [];
            for (let i = 0; i < 20; i++) {
                const start = performance.now();
                canvas.dispatchEvent(new PointerEvent("pointermove", {clientX: 200 + 5 * i, clientY: 300}));
                await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
                times.push(performance.now() - start);
            }
            return times.sort((a, b) => a - b)[10];
        }"""
    )
    tab.mouse.up()
    assert took < 400, f"{took:.0f} ms for two frames"
