from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis import data_scaling_table, leaderboard, scaling
from analysis.figures import style as figures
from analysis.results import data_scaling as data_axis
from analysis.results.frontier import BudgetResult, Frontier
from research.evaluation.significance import paired_difference

DAYS = 877
RNG = np.random.default_rng(0)
COMMON = RNG.gamma(0.5, 0.8, DAYS)


def entry(n_params: int, loss: float, trials: int = 12, noise: float = 0.02) -> BudgetResult:
    losses = COMMON - COMMON.mean() + loss + RNG.normal(0, noise, DAYS)
    losses += loss - losses.mean()
    prior = COMMON - COMMON.mean() + 0.45
    return BudgetResult(
        budget=f"{n_params // 1000}K",
        run_id="r",
        architecture="d8 L2 h2 ff4",
        n_params=n_params,
        val_loss=loss,
        skill=1 - loss / 0.45,
        auc=0.7,
        auc_se=0.02,
        alarm="none",
        complete=trials,
        failed=0,
        against={"prior": paired_difference(losses, prior), "logistic": paired_difference(losses, prior - 0.05)},
        day_losses=losses,
    )


def frontier(*entries: BudgetResult) -> Frontier:
    trials = pd.DataFrame(
        {"n_params": [e.n_params for e in entries], "val_loss": [e.val_loss for e in entries], "budget": "x", "name": "n"}
    )
    return Frontier(
        experiment="sp500-threshold-1pct",
        study="f0bb342b9fef2e0f",
        horizon=1,
        features="a25s",
        context_length=60,
        n_days=DAYS,
        n_train_windows=3012,
        n_effective_windows=900.0,
        instruments="^GSPC",
        setting=("labels", "features", "^GSPC", "2011-12-31", "2015-06-30", "2018-12-31", "0"),
        base_rate_loss=0.45,
        entries=list(entries),
        baselines={"prior": 0.45, "logistic": 0.40},
        trials=trials,
    )


def test_a_planted_slope_is_found_with_its_sign_and_size() -> None:
    falling = [entry(10**power, 0.40 - 0.01 * power) for power in (3, 4, 5, 6)]
    slope = scaling.slope_per_decade(falling)
    assert slope.mean == pytest.approx(-0.01, abs=1e-9)
    assert not slope.inside_noise
    assert "scaling: the loss falls with size" in scaling.scaling_sentences(frontier(*falling))[0]
    rising = [entry(10**power, 0.40 + 0.01 * power) for power in (3, 4, 5)]
    assert "inverse: the loss rises with size" in scaling.scaling_sentences(frontier(*rising))[0]


def test_noise_around_one_level_is_no_evidence_of_scaling() -> None:
    flat = [entry(10**power, 0.40 + shift, noise=0.3) for power, shift in ((3, 0.001), (4, -0.001), (5, 0.0005))]
    assert "verdict inconclusive" in scaling.scaling_sentences(frontier(*flat))[0]


def test_two_budgets_are_no_trend() -> None:
    assert "no trend can be fitted" in scaling.scaling_sentences(frontier(entry(1_000, 0.4), entry(10_000, 0.3)))[0]


def test_neighbouring_budgets_are_compared_day_by_day() -> None:
    (step,) = scaling.budget_steps(frontier(entry(2_000, 0.40), entry(20_000, 0.39)))
    assert step.factor == 10
    assert step.change.mean == pytest.approx(-0.01, abs=1e-9)
    # Paired: the days' common spread, a hundred times the difference, cancels.
    assert step.change.high - step.change.low < 0.01


def test_the_leaderboard_says_which_result_is_inside_the_noise() -> None:
    close, far = entry(2_000, 0.4003, noise=0.3), entry(20_000, 0.42)
    lines = leaderboard.leaderboard_sentences(frontier(close, far))
    assert any(line.startswith("2K") and "inside the noise" in line for line in lines)
    assert any(line.startswith("20K") and "worse than the strongest baseline" in line and "outside" in line for line in lines)


def test_unequal_numbers_of_trials_are_called_out() -> None:
    unequal = leaderboard.leaderboard_sentences(frontier(entry(2_000, 0.4, trials=12), entry(20_000, 0.39, trials=50)))
    assert any("2K 12, 20K 50" in line for line in unequal)
    equal = leaderboard.leaderboard_sentences(frontier(entry(2_000, 0.4), entry(20_000, 0.39)))
    assert not any("Trials differ" in line for line in equal)


def test_the_figure_shows_every_trial_and_the_baselines_as_lines() -> None:
    axes = figures.loss_against_size(frontier(entry(2_000, 0.4), entry(20_000, 0.39))).axes[0]
    assert len(axes.collections[0].get_offsets()) == 2
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "logistic 0.4000" in labels
    assert axes.get_xscale() == "log"


def test_training_windows_become_an_axis_where_a_study_varied_them() -> None:
    few = replace(frontier(entry(2000, 0.41), entry(20_000, 0.42)), n_train_windows=1000)
    many = replace(frontier(entry(2000, 0.40)), n_train_windows=4000, study="other")
    elsewhere = replace(frontier(entry(2000, 0.3)), horizon=3)
    # As many validation days, but other ones, or those of another instrument.
    others = replace(few, n_train_windows=2000, setting=("labels", "features", "^IXIC", *few.setting[3:]))
    (axis,) = data_axis.data_axes([many, elsewhere, few, others])
    cells = axis.cells()
    assert [one.n_train_windows for one in axis.frontiers] == [1000, 4000]
    assert [one.val_loss if one else None for one in cells["20K"]] == [0.42, None]
    found = data_axis.gain(cells["2K"])
    assert found is not None
    assert found.mean == pytest.approx(-0.01)
    assert data_axis.gain(cells["20K"]) is None
    table = axis.table()
    assert list(zip(table["n_params"], table["n_train_windows"], table["val_loss"], strict=True)) == [
        (2000, 1000, 0.41),
        (20_000, 1000, 0.42),
        (2000, 4000, 0.40),
    ]
    assert data_axis.data_axes([many, elsewhere, others]) == []
    assert data_scaling_table.data_law_table(axis) is None


def test_enough_sizes_and_windows_determine_laws_in_both() -> None:
    def at(windows: int) -> Frontier:
        losses = [(size, 0.3 + 2 / size**0.4 + 3 / windows**0.5) for size in (1_000, 10_000, 100_000)]
        return replace(frontier(*(entry(size, loss) for size, loss in losses)), n_train_windows=windows, study=f"{windows}")

    (axis,) = data_axis.data_axes([at(500), at(1_000), at(2_000), at(4_000)])
    table = data_scaling_table.data_law_table(axis)
    assert table is not None
    fitted = dict(zip(table.columns[0].cells, table.columns[2].cells, strict=True))
    assert "alpha 0.4" in str(fitted["chinchilla"])
    assert "beta 0.5" in str(fitted["chinchilla"])
