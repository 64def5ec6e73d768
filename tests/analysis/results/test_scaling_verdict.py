"""The verdict of a frontier uses fresh seeds if there are any and names the noise that its interval lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from analysis.results.frontier import BudgetResult
from analysis.results.scaling_verdict import point_errors, scaling_verdict_of
from analysis.results.uncertainty import loss_uncertainties
from tests.support.invented import entry, frontier

RANDOM = np.array([0.42, 0.43, 0.41, 0.44, 0.45, 0.42])


def replicated(n_params: int, chosen: float, fresh: Sequence[float], **changes: Any) -> BudgetResult:
    """Return a budget whose best trial was trained again on fresh seeds."""
    fields = {"config": "best", "replicates": {"best": tuple(fresh)}, "random_losses": RANDOM, **changes}
    return entry(n_params, chosen, **fields)


def test_below_three_budgets_there_is_no_verdict() -> None:
    assert scaling_verdict_of(frontier(entry(1_000, 0.4), entry(10_000, 0.39))) is None


def test_fresh_seeds_replace_the_chosen_losses() -> None:
    # The chosen losses fall steeply; those on fresh seeds do not fall.
    seeds = [(0.420, 0.421, 0.419), (0.421, 0.420, 0.419), (0.419, 0.420, 0.421)]
    entries = [replicated(10**power, 0.42 - 0.01 * (power - 3), fresh) for power, fresh in zip((3, 4, 5), seeds, strict=True)]
    result = scaling_verdict_of(frontier(*entries))
    assert result is not None
    assert result.basis == "fresh seeds"
    assert result.verdict.slope == pytest.approx(0, abs=0.003)
    chosen = scaling_verdict_of(frontier(*(entry(best.n_params, best.val_loss) for best in entries)))
    assert chosen is not None
    assert chosen.verdict.slope < -0.02
    assert any("REPLICATES=3" in caution for caution in chosen.cautions)
    assert (result.noise, chosen.noise) == ("the noise of seeds, search and days", "the noise of budgets and days")


def test_a_budget_without_fresh_seeds_is_left_out_and_named() -> None:
    entries = [replicated(10**power, 0.4, (0.42, 0.41, 0.43)) for power in (3, 4, 5)]
    result = scaling_verdict_of(frontier(*entries, entry(10**6, 0.1, random_losses=RANDOM)))
    assert result is not None
    assert result.left_out == ("1000K",)
    assert result.verdict.n_budgets == 3
    assert any("1000K" in caution for caution in result.cautions)


def test_every_layer_of_noise_widens_the_interval() -> None:
    """Seeds alone, then with the noise of the search, then with noisier days."""
    fresh = [(0.420, 0.424, 0.416), (0.421, 0.417, 0.425), (0.419, 0.423, 0.415)]
    sizes = (10**3, 10**4, 10**5)

    def width(**changes: Any) -> float:
        entries = [replicated(size, 0.415, seeds, **changes) for size, seeds in zip(sizes, fresh, strict=True)]
        result = scaling_verdict_of(frontier(*entries))
        assert result is not None
        assert result.search == (len(changes.get("random_losses", RANDOM)) > 1)
        return result.verdict.high - result.verdict.low

    none, searched = width(random_losses=np.empty(0), noise=1e-6), width(noise=1e-6)
    assert none < searched < width(noise=0.3)
    # One random trial has no spread.
    assert width(random_losses=RANDOM[:1], noise=1e-6) == pytest.approx(none)


def test_the_error_of_a_point_combines_search_and_seed() -> None:
    (uncertainty,) = loss_uncertainties(frontier(replicated(1000, 0.4, (0.40, 0.42))))
    (error,) = point_errors([uncertainty])
    assert error == pytest.approx(np.hypot(uncertainty.search, uncertainty.seed))
    assert point_errors(loss_uncertainties(frontier(entry(1000, 0.4)))) == [0.0]
