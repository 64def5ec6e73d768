"""A planted effect of the shape is found where it was planted, and noise is called noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import effects as architecture_effects
from analysis.options import EffectsOptions
from analysis.results.architecture import effects, optimum_shifts
from analysis.results.frontier import Frontier, frontiers
from analysis.results.horizon_transfer import spearman_interval, transfers
from analysis.results.importance import importance
from analysis.results.shape_curve import ShapeCurve, heterogeneity, ratio_label, shape_curve
from research.tracking.store import Store, open_store
from tests.support.invented import entry, frontier, searched
from tests.support.small_store import add_run

CEILING = 0.6


def curve_of(trials: pd.DataFrame) -> ShapeCurve:
    found = shape_curve(trials, "2K", 1, CEILING)
    assert found is not None
    return found


def test_a_planted_best_ratio_is_found_with_its_interval() -> None:
    found = [curve_of(searched(seed, 40, effect=0.005)) for seed in range(40)]
    assert all(one.p_value < 0.01 for one in found)
    assert np.median([one.best for one in found]) == pytest.approx(0.25, rel=0.15)
    assert np.mean([one.best_low <= 0.25 <= one.best_high for one in found]) >= 0.85
    middle = found[0].curve
    assert (middle["low"] <= middle["loss"]).all()
    assert (middle["loss"] <= middle["high"]).all()


def test_noise_has_no_best_ratio_in_nineteen_of_twenty_studies() -> None:
    assert np.mean([curve_of(searched(seed, 15)).p_value < 0.05 for seed in range(150)]) < 0.11


def test_only_random_trials_draw_the_curve() -> None:
    random, sampled = searched(0, 30, effect=0.005), searched(1, 300, effect=0.02, best=4.0).assign(proposed_by="tpe")
    assert curve_of(pd.concat([random, sampled])).best == curve_of(random).best


def test_a_failed_training_counts_as_the_base_rate_and_no_worse() -> None:
    trials = searched(0, 30, effect=0.005)
    failed = trials.assign(val_loss=trials["val_loss"].where(trials.index != 3, 40.0))
    assert curve_of(failed).curve["loss"].max() < CEILING + 0.1


def test_too_few_trials_draw_no_curve() -> None:
    assert shape_curve(searched(0, 9), "2K", 1, CEILING) is None
    assert shape_curve(searched(0, 40).assign(n_layers=2, d_model=8), "2K", 1, CEILING) is None
    assert importance(searched(0, 19), CEILING) is None


def test_a_best_beyond_what_was_tried_is_at_the_edge() -> None:
    assert curve_of(searched(0, 40, effect=0.001, best=64.0)).is_at_edge


def test_importance_finds_the_planted_shape_and_nothing_else() -> None:
    found = importance(searched(0, 60, effect=0.005), CEILING)
    assert found is not None
    assert found.explains
    assert found.contributions[0].setting == "depth and width"
    assert {one.setting for one in found.contributions if not one.is_noise} <= {"depth and width", "depth", "width"}
    assert 0.5 < found.contributions[0].share < 1.2


def test_importance_finds_a_learning_rate() -> None:
    trials = searched(1, 60)
    planted = trials["val_loss"] + 0.06 * (np.log10(trials["learning_rate"]) + 3) ** 2
    found = importance(trials.assign(val_loss=planted), CEILING)
    assert found is not None
    assert [one.setting for one in found.contributions if not one.is_noise] == ["learning rate"]


def test_noise_is_not_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.results.importance.TREES", 30)
    found = [one for seed in range(8) if (one := importance(searched(seed, 30), CEILING))]
    assert len(found) == 8
    assert sum(one.explains for one in found) <= 1
    assert not any(one.contributions for one in found if not one.explains)


def test_equal_best_ratios_are_called_so_and_different_ones_are_not() -> None:
    same = [curve_of(searched(seed, 40, effect=0.005)) for seed in range(3)]
    other = curve_of(searched(9, 40, effect=0.005, best=0.06))
    assert heterogeneity(same) > 0.05
    assert heterogeneity([*same, other]) < 0.01
    assert np.isnan(heterogeneity(same[:1]))


def two_horizons(best: float) -> list[Frontier]:
    """Two budgets and two horizons; at horizon 3 the best ratio is another one."""
    return [
        frontier(
            entry(2000, 0.4),
            entry(20_000, 0.39),
            trials=pd.concat(
                [searched(0, 40, budget="2K", effect=0.005, best=at), searched(1, 40, budget="20K", effect=0.005)]
            ),
            horizon=horizon,
        )
        for horizon, at in ((1, 0.25), (3, best))
    ]


def test_a_best_shape_that_moves_with_the_horizon_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.results.architecture.importance", lambda *_: None)
    still, moving = (optimum_shifts(effects(two_horizons(best))) for best in (0.25, 0.06))
    assert [one.along for one in still] == ["budget", "budget", "horizon", "horizon"]
    by_horizon = {one.at: one for one in moving if one.along == "horizon"}
    assert by_horizon["sp500-threshold-1pct, 2K"].p_value < 0.01
    assert by_horizon["sp500-threshold-1pct, 20K"].p_value > 0.05
    assert "it moves" in architecture_effects.shift_sentence(by_horizon["sp500-threshold-1pct, 2K"])


def test_a_best_at_the_edge_is_no_best_that_could_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.results.architecture.importance", lambda *_: None)
    (one,) = effects([frontier(entry(2000, 0.4), trials=searched(0, 40, effect=0.001, best=64.0))])
    assert one.curve_p["2K"] < 0.01
    assert not one.best_is_known("2K")
    verdicts = list(architecture_effects.curve_table(one).columns[-1].cells)
    assert verdicts == ["matters; best at the edge of what was tried"]


def test_a_heat_map_has_one_row_per_shape() -> None:
    (one,) = effects([frontier(entry(2000, 0.4), trials=searched(0, 30))])
    found = one.heat_map("2K")
    assert found["trials"].sum() == 30
    assert not found.duplicated(["n_layers", "d_model"]).any()
    assert (found["lowest_loss"] <= found["median_loss"]).all()


def test_ratios_read_as_fractions() -> None:
    assert [ratio_label(value) for value in (4, 1, 0.125)] == ["4", "1", "1/8"]


def test_the_interval_of_a_rank_correlation_covers_it() -> None:
    rng, covered = np.random.default_rng(0), []
    for _ in range(400):
        first, second = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 25).T
        low, high = spearman_interval(float(pd.Series(first).corr(pd.Series(second), method="spearman")), 25)
        # Spearman's of a bivariate normal is 6/pi asin(r/2).
        covered.append(low < 6 / np.pi * np.arcsin(0.3) < high)
    assert 0.91 < np.mean(covered) < 0.99
    assert spearman_interval(1.0, 10)[1] <= 1


@pytest.fixture
def store(store_root: Path) -> Store:
    """Six configurations tried at two horizons, in the same order at both but for the best two."""
    store = open_store(store_root)
    shapes = [(1, 16, 1, 32), (2, 12, 2, 24), (3, 12, 1, 24), (4, 8, 2, 32), (6, 8, 1, 16), (8, 8, 2, 16)]
    for horizon, losses in ((1, (0.40, 0.41, 0.42, 0.43, 0.44, 0.45)), (3, (0.62, 0.60, 0.63, 0.64, 0.65, 0.66))):
        for number, (shape, loss) in enumerate(zip(shapes, losses, strict=True)):
            name = f"{number:04d} d{shape[1]} L{shape[0]} h{shape[2]} ff2"
            add_run(store, name, loss=loss, horizon=horizon, shape=shape, by="random")
        add_run(store, "prior", kind="baseline", loss=0.69, horizon=horizon)
    # Tried at one horizon only.
    add_run(store, "0006 d4 L24 h1 ff2", loss=0.3, horizon=1, shape=(24, 4, 1, 8))
    return store


def test_ranks_and_regret_are_those_of_what_both_horizons_tried(store: Store) -> None:
    up, down = transfers(store, frontiers(store, None))
    assert (up.chosen_at, up.used_at, up.shared, up.matched_by) == (1, 3, 6, "configuration")
    assert up.correlation == pytest.approx(1 - 6 * 2 / (6 * 35))
    assert up.regret.mean == pytest.approx(0.02)
    assert down.regret.mean == pytest.approx(0.01)


def test_architectures_are_matched_where_configurations_are_not(store: Store) -> None:
    first, second = frontiers(store, None)
    other = replace(second, trials=second.trials.assign(learning_rate=range(len(second.trials))))
    assert {one.matched_by for one in transfers(store, [first, other])} == {"architecture"}
    assert transfers(store, [first]) == []


def test_the_verb_tells_draws_and_admits_what_it_cannot(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    architecture_effects.main(EffectsOptions(store=store.root))
    told = capsys.readouterr().out
    assert "too few random trials" in told
    assert "fewer than 20 trials" in told
    # Nothing is ranked: a table of dashes would say nothing.
    assert "R² on held-out trials" not in told
    assert "6 configurations" in told
    for name in ("shape", "depth-width"):
        for suffix in ("png", "pdf", "csv"):
            assert len(list((store.root / "reports").glob(f"{name}-*.{suffix}"))) == 2
