import sys
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from modeling_seqvae.reproduce import plots
from modeling_seqvae.reproduce.plots import STYLES, figure3, price_figure, require_matplotlib
from modeling_seqvae.reproduce.rows import Spread


def history(*kls: float, first: int = 1) -> list[dict[str, Any]]:
    return [{"epoch": first + n, "kl": kl, "cosine": 1.0 - kl / 10} for n, kl in enumerate(kls)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are made."""
    made, figure = [], require_matplotlib()

    def make(**options: Any) -> Any:
        made.append(figure(**options))
        return made[-1]

    monkeypatch.setattr(plots, "require_matplotlib", lambda: make)
    return made


def test_the_curves_are_the_records(tmp_path, drawn):
    histories = {"last": history(0.3, 0.1, 0.0), "max": history(0.5, 0.8)}
    figure3(histories, tmp_path / "below" / "figure.png", "A caption")
    assert (tmp_path / "below" / "figure.png").read_bytes().startswith(b"\x89PNG")
    for axis, key in zip(drawn[0].axes, ("kl", "cosine"), strict=True):
        for line, (title, records) in zip(axis.lines, histories.items(), strict=True):
            assert line.get_label() == title
            assert list(line.get_xdata()) == [record["epoch"] for record in records]
            assert list(line.get_ydata()) == [record[key] for record in records]
    assert drawn[0].get_suptitle() == "A caption"


def test_axes_start_at_zero_and_say_what_they_show(tmp_path, drawn):
    figure3({"last": history(2.0, 3.0)}, tmp_path / "figure.png")
    kl, cosine = drawn[0].axes
    assert kl.get_ylim()[0] == cosine.get_ylim()[0] == 0
    assert "nats per sentence" in kl.get_ylabel() and "cosine" in cosine.get_ylabel()
    assert kl.get_xlabel() == cosine.get_xlabel() == "epoch"


def test_a_curve_that_hardly_varies_is_inside_the_panel(tmp_path, drawn):
    records = [{"epoch": epoch, "kl": 2.0, "cosine": 0.9999 + epoch / 1e6} for epoch in range(1, 5)]
    figure3({"last": records}, tmp_path / "figure.png")
    kl, cosine = (axis.get_ylim() for axis in drawn[0].axes)
    assert kl == pytest.approx((0, 2.1)) and cosine == pytest.approx((0, 1.05), abs=1e-3)


def test_nothing_but_zeros_is_drawn_as_well(tmp_path, drawn):
    figure3({"last": [{"epoch": 1, "kl": 0.0, "cosine": 0.0}]}, tmp_path / "figure.png")
    assert all(axis.get_ylim()[1] > 0 for axis in drawn[0].axes)


def test_a_long_caption_takes_several_lines(tmp_path, drawn):
    caption = "ptb, " + ", ".join(f"training.option_{number}=0.5" for number in range(9))
    figure3({"last": history(2.0, 3.0)}, tmp_path / "figure.png", caption)
    point = {"kl": Spread((1.0,)), "cost": Spread((0.0,)), "accuracy": None}
    price_figure({"max": point}, tmp_path / "price.png", "NLL", caption=caption)
    for figure in drawn:
        assert figure.get_suptitle().replace("\n", " ") == caption
        within = next(part for part in figure.texts if part.get_text() == figure.get_suptitle())
        assert within.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width <= figure.bbox.width


def test_epochs_are_whole_numbers(tmp_path, drawn):
    figure3({"last": history(2.0, 3.0)}, tmp_path / "figure.png")
    assert all(float(tick).is_integer() for axis in drawn[0].axes for tick in axis.get_xticks())


def test_no_two_curves_look_alike_and_none_is_dropped(tmp_path, drawn):
    titles = [f"method {number}" for number in range(len(STYLES) + 2)]
    figure3({title: history(1.0, 2.0) for title in titles}, tmp_path / "figure.pdf")
    lines = drawn[0].axes[0].lines
    assert [line.get_label() for line in lines] == titles
    looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines[: len(STYLES)]]
    assert len(set(looks)) == len(STYLES)


def test_a_history_without_a_record_is_named(tmp_path):
    with pytest.raises(ValueError, match="history of attention"):
        figure3({"max": history(1.0), "attention": []}, tmp_path / "figure.png")
    assert not (tmp_path / "figure.png").exists()


def test_no_display_and_no_global_state_is_touched(tmp_path):
    figure3({"last": history(1.0)}, tmp_path / "figure.png")
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install matplotlib"):
        require_matplotlib()
