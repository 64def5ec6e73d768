"""Figures can be read, whatever a data set is called and however few budgets there are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.figures.scaling import residuals, rollout
from analysis.figures.style import panels, save

LONG = "nasdaq-and-sp500-adjusted-threshold-1pct, horizon 10"
STEPS = pd.DataFrame(
    {"n_params": [9177, 14605], "loss": [0.38, 0.38], "low": [0.36, 0.36], "high": [0.4, 0.4], "observed": 0.379}
)
LEFT = pd.DataFrame({"n_params": [9177, 14605], "residual": [0.01, -0.01], "error": [0.01, 0.01]})


def drawn(figure: Figure, folder: Path) -> Figure:
    save(figure, folder / "figure.png")
    return figure


@pytest.mark.parametrize("figure", [rollout(STEPS, LONG), residuals(LEFT, LONG)], ids=["rollout", "residuals"])
def test_a_long_title_stays_on_the_page_and_the_axis_has_a_scale(figure: Figure, tmp_path: Path) -> None:
    (axes,) = drawn(figure, tmp_path).axes
    title = axes.title.get_window_extent()
    assert figure.bbox.x0 <= title.x0
    assert title.x1 <= figure.bbox.x1
    assert title.y1 <= figure.bbox.y1
    low, high = axes.get_xlim()
    shown = [tick for tick in axes.xaxis.get_majorticklocs() if low <= tick <= high]
    assert len(shown) >= 2


def test_one_panel_leaves_room_for_title_and_legend(tmp_path: Path) -> None:
    figure, (axes,) = panels(1, 4)
    axes.plot([1, 12], [0.6, 0.5], label="training, with dropout")
    figure.legend(loc="outside right center")
    drawn(figure, tmp_path)
    assert axes.get_position().width > 0.5
