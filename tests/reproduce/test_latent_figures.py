"""Pictures show the figures they are given."""

from typing import Any

import numpy as np
import pytest

from modeling_seqvae.reproduce import plots
from modeling_seqvae.reproduce.plots import (
    BAND,
    STYLES,
    feature_space_figure,
    positions_figure,
    price_figure,
    require_matplotlib,
)
from modeling_seqvae.reproduce.rows import Spread


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are made."""
    pytest.importorskip("matplotlib")
    made, figure = [], require_matplotlib()

    def make(**options: Any) -> Any:
        made.append(figure(**options))
        return made[-1]

    monkeypatch.setattr(plots, "require_matplotlib", lambda: make)
    return made


def side(*saved: float) -> dict[str, list[Any]]:
    return {
        "position": list(range(1, len(saved) + 1)),
        "saved": list(saved),
        "saved_se": [0.1] * len(saved),
        "told": [value / 2 for value in saved],
        "told_se": [0.05] * len(saved),
    }


def test_the_curves_are_the_report_s_with_a_band_of_standard_errors(tmp_path, drawn) -> None:
    reports = {
        "last": {"from_start": side(0.2, 0.1, 0.0), "from_end": side(0.0, 0.1, 0.2)},
        "max": {"from_start": side(2.0, 1.0), "from_end": side(0.5, 0.4)},
    }
    positions_figure(reports, tmp_path / "below" / "figure.png", "A caption")
    assert (tmp_path / "below" / "figure.png").read_bytes().startswith(b"\x89PNG")
    axes = np.array(drawn[0].axes).reshape(2, 2)
    for key, row in zip(("told", "saved"), axes, strict=True):
        for name, axis in zip(("from_start", "from_end"), row, strict=True):
            curves = [line for line in axis.lines if line.get_label() in reports]
            for line, band, (title, report) in zip(curves, axis.collections, reports.items(), strict=True):
                assert line.get_label() == title
                assert list(line.get_xdata()) == report[name]["position"]
                assert list(line.get_ydata()) == report[name][key]
                low, high = band.get_datalim(axis.transData).intervaly
                assert high == pytest.approx(max(report[name][key]) + BAND * report[name][f"{key}_se"][0])
                assert low == pytest.approx(min(report[name][key]) - BAND * report[name][f"{key}_se"][0])
    assert drawn[0].get_suptitle() == "A caption"


def test_both_sides_read_from_left_to_right_on_the_same_scale(tmp_path, drawn) -> None:
    report = {"from_start": side(0.2, 0.1, 0.0), "from_end": side(3.0, 0.1, 0.2)}
    positions_figure({"max": report}, tmp_path / "figure.png")
    for start, end in np.array(drawn[0].axes).reshape(2, 2):
        assert start.get_xlim()[0] < start.get_xlim()[1] and end.get_xlim()[0] > end.get_xlim()[1]
        assert start.get_ylim() == end.get_ylim()
        assert "nats" in start.get_ylabel()
    assert "start" in drawn[0].axes[2].get_xlabel() and "</s>" in drawn[0].axes[3].get_xlabel()


def test_every_space_is_a_cube_with_its_points_and_their_shadows(tmp_path, drawn) -> None:
    random = np.random.default_rng(0)
    spaces = {f"method {n}": (random.uniform(-1, 1, (20, 3)), 0.1 * n) for n in range(4)}
    feature_space_figure(spaces, tmp_path / "figure.png", "A caption")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    axes = drawn[0].axes
    for axis, (title, (points, cosine)) in zip(axes, spaces.items(), strict=True):
        assert axis.get_title() == f"{title}\nmean pairwise cosine {cosine:.2f}"
        assert axis.get_xlim() == axis.get_ylim() == axis.get_zlim() == (-1, 1)
        *shadows, cloud = (np.array(scatter._offsets3d).T for scatter in axis.collections)
        np.testing.assert_allclose(cloud, points)
        for wall, shadow in enumerate(shadows):
            kept = [place for place in range(3) if place != wall]
            np.testing.assert_allclose(shadow[:, kept], points[:, kept])
            assert set(np.abs(shadow[:, wall])) == {1.0}
    colours = {tuple(axis.collections[-1].get_facecolor()[0]) for axis in axes}
    assert len(colours) == len(axes) <= len(STYLES)


def test_one_sentence_has_no_cosine(tmp_path, drawn) -> None:
    feature_space_figure({"max": ([[0.1, 0.2, 0.3]], None)}, tmp_path / "figure.png")
    assert drawn[0].axes[0].get_title() == "max"


def price(kl: float, cost: float, accuracy: float | None, seeds: int = 1) -> dict[str, Spread | None]:
    return {
        "kl": Spread((kl,) * seeds),
        "cost": Spread((cost,) * seeds),
        "accuracy": None if accuracy is None else Spread((accuracy,) * seeds),
    }


PRICES = {
    "last": price(0.1, 0.3, 0.4, 2),
    "max": price(0.2, 0.3, 0.5),
    "max with unigram pretraining and free bits, a long name": price(6.0, -0.5, 0.9),
}


def test_every_method_is_a_named_point_in_the_colour_of_its_accuracy(tmp_path, drawn) -> None:
    price_figure(PRICES, tmp_path / "below" / "figure.png", "NLL minus", baseline=True, caption="A caption")
    assert (tmp_path / "below" / "figure.png").read_bytes().startswith(b"\x89PNG")
    axis, bar = drawn[0].axes
    (cloud,) = [part for part in axis.collections if len(part.get_offsets()) == 3]
    np.testing.assert_allclose(cloud.get_offsets(), [(0.1, 0.3), (0.2, 0.3), (6.0, -0.5)])
    np.testing.assert_allclose(cloud.get_array(), [0.4, 0.5, 0.9])
    assert [text.get_text().replace("\n", " ") for text in axis.texts] == ["language model", *PRICES]
    assert (axis.get_ylabel(), drawn[0].get_suptitle()) == ("NLL minus", "A caption")
    assert "nats" in axis.get_xlabel() and "accuracy" in bar.get_ylabel()
    assert axis.get_xlim()[0] > -0.5


ON_THE_LINE = {"max": price(0.6, 0.1, 0.78), "unigram": price(0.9, 0.0, 0.84), "unigram, 6": price(6.0, 0.0, 0.85)}


@pytest.mark.parametrize("prices", [PRICES, ON_THE_LINE], ids=["apart", "as good as the language model"])
def test_names_stand_in_the_frame_and_cover_no_other_and_no_point(tmp_path, drawn, prices) -> None:
    price_figure(prices, tmp_path / "figure.png", "NLL minus", baseline=True)
    axis = drawn[0].axes[0]
    frame, boxes = axis.get_window_extent(), [text.get_window_extent() for text in axis.texts]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 for box in boxes)
    points = axis.transData.transform([(point["kl"].mean, point["cost"].mean) for point in prices.values()])
    assert not any(box.padded(4).contains(*point) for box in boxes for point in points)  # the radius of a point


def test_without_labels_there_are_no_colours_and_without_a_language_model_no_line(tmp_path, drawn) -> None:
    price_figure({"max": price(1.0, 22.0, None)}, tmp_path / "figure.png", "NLL, nats")
    (axis,) = drawn[0].axes
    assert [text.get_text() for text in axis.texts] == ["max"] and not axis.lines
    assert axis.get_ylim()[0] > 20
