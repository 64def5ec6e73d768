"""Forecasts widen with distance and use smaller budgets only; equal compute is compared with equal compute."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.figures import scaling as figures_scaling
from analysis.results import extrapolation
from analysis.results.frontier import Frontier
from tests.support.invented import entry, frontier

FALLING = [entry(10**power, 0.5 * 10 ** (-0.02 * (power - 3))) for power in (3, 4, 5, 6)]


def test_the_forecast_band_widens_and_starts_beyond_the_largest_budget() -> None:
    ahead = extrapolation.forecast_band(frontier(*FALLING))
    assert ahead["n_params"].min() > FALLING[-1].n_params
    width = (ahead["high"] - ahead["low"]).to_numpy()
    assert (np.diff(width) > 0).all()
    assert ((ahead["low"] < ahead["loss"]) & (ahead["loss"] < ahead["high"])).all()
    assert extrapolation.forecast_band(frontier(*FALLING[:2])).empty


def test_a_budget_is_forecast_from_the_smaller_ones_only() -> None:
    surprising = [*FALLING[:3], entry(10**6, 0.3)]
    usual, other = (extrapolation.rollout(frontier(*entries)) for entries in (FALLING, surprising))
    assert list(usual["budget"]) == ["1000K"]
    assert usual["loss"].iloc[0] == other["loss"].iloc[0]
    assert usual["error"].iloc[0] == pytest.approx(0, abs=0.02)
    assert other["error"].iloc[0] < -0.2
    assert not other["low"].iloc[0] <= 0.3 <= other["high"].iloc[0]


def test_a_straight_line_has_no_residuals_and_a_bump_has_one_at_its_size() -> None:
    straight = extrapolation.residuals(frontier(*(entry(10**power, 0.5 - 0.01 * power) for power in (3, 4, 5))))
    np.testing.assert_allclose(straight["residual"], 0, atol=1e-12)
    bent = extrapolation.residuals(frontier(entry(10**3, 0.4), entry(10**4, 0.43), entry(10**5, 0.4)))
    assert bent["residual"].argmax() == 1


def equal_compute() -> Frontier:
    """Two budgets at the same compute, the larger one with fewer epochs, and one budget alone at another."""
    rows = [("2K", 2_000, 10.0, 0.42), ("2K", 2_000, 10.0, 0.41), ("20K", 20_000, 1.0, 0.43), ("20K", 20_000, 1.0, 0.44)]
    rows += [("20K", 20_000, 100.0, 0.40)] * 4
    trials = pd.DataFrame(rows, columns=["budget", "n_params", "epochs_run", "val_loss"]).assign(name="n")
    trials["flops_per_sample"] = 6.0 * trials["n_params"]
    return frontier(entry(2_000, 0.41), entry(20_000, 0.40), trials=trials)


def test_only_compute_of_several_budgets_is_compared() -> None:
    table = extrapolation.isoflop(equal_compute())
    assert table["flops"].nunique() == 1
    assert list(table.groupby("budget")["val_loss"].min()) == [0.43, 0.41]


def test_figures_draw_the_numbers_of_the_tables() -> None:
    figure = figures_scaling.isoflop(extrapolation.isoflop(equal_compute()), "title")
    (line,) = (line for line in figure.axes[0].lines if len(line.get_xdata()))
    assert list(line.get_ydata()) == [0.41, 0.43]
    steps = extrapolation.rollout(frontier(*FALLING))
    assert "observed" in [text.get_text() for text in figures_scaling.rollout(steps, "t").axes[0].get_legend().get_texts()]
    ahead = figures_scaling.frontier_figure(frontier(*FALLING), extrapolation.forecast_band(frontier(*FALLING)))
    assert any("next budgets" in text.get_text() for text in ahead.axes[0].get_legend().get_texts())
