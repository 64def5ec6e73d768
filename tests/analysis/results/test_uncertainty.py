"""The three layers of noise are separate, and the winner's curse has the sign and size of the theory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis import leaderboard, uncertainty_table
from analysis.results.frontier import frontiers
from analysis.results.uncertainty import LossUncertainty, loss_uncertainties, pooled_deviation
from research.tracking.store import Store, open_store
from tests.support.invented import entry, frontier
from tests.support.small_store import BASE_RATE_LOSS, add_run

RNG = np.random.default_rng(5)
EXPECTED_MAXIMUM_OF_12 = 1.6292
"""Expected maximum of twelve standard normal draws (Harter 1961)."""


def uncertainty_of(losses: NDArray[np.float64], fresh: tuple[float, ...] = (), days: float = 0.02) -> LossUncertainty:
    """Return the uncertainty of a budget with these random losses and these fresh seeds of its best trial."""
    replicates = {"winner": fresh}
    best = float(losses.min())
    winner = entry(2000, best, noise=days, config="winner", random_losses=losses, replicates=replicates)
    return loss_uncertainties(frontier(winner))[0]


def test_each_layer_depends_on_its_own_noise_only() -> None:
    calm = uncertainty_of(RNG.normal(0.4, 0.001, 20), (0.40, 0.401), days=0.02)
    other_search = uncertainty_of(RNG.normal(0.4, 0.05, 20), (0.40, 0.401), days=0.02)
    other_seeds = uncertainty_of(RNG.normal(0.4, 0.001, 20), (0.38, 0.42), days=0.02)
    other_days = uncertainty_of(RNG.normal(0.4, 0.001, 20), (0.40, 0.401), days=2.0)
    assert other_search.search > 10 * calm.search
    assert other_search.seed == calm.seed
    assert other_seeds.seed > 10 * calm.seed
    assert other_seeds.search < 2 * calm.search
    assert other_days.validation > 2 * calm.validation
    assert other_days.seed == calm.seed


def test_days_are_paired_with_the_strongest_baseline() -> None:
    """The part of a day's loss that all models share, here nearly all of it, is no noise of the comparison."""
    uncertainty = uncertainty_of(RNG.normal(0.4, 0.01, 20), days=0.001)
    assert uncertainty.rival == "logistic"
    assert uncertainty.validation < 1e-3


def test_the_winners_curse_of_pure_noise_is_the_expected_extreme() -> None:
    """Twelve equal configurations: the lowest loss is 1.63 seed deviations below the truth, fresh seeds are not."""
    sd, studies = 0.01, 200
    curses = [uncertainty_of(RNG.normal(0.4, sd, 12), tuple(RNG.normal(0.4, sd, 3))).curse for _ in range(studies)]
    # The minimum of twelve has a variance of 0.35 (Harter 1961), the mean of three seeds one of 1/3.
    error = sd * (0.35 + 1 / 3) ** 0.5 / studies**0.5
    assert np.mean(curses) == pytest.approx(-EXPECTED_MAXIMUM_OF_12 * sd, abs=4 * error)


def test_the_common_n_is_that_of_the_budget_with_the_fewest_random_trials() -> None:
    few = entry(2000, 0.4, random_losses=RNG.normal(0.41, 0.01, 5))
    many = entry(20_000, 0.39, random_losses=RNG.normal(0.40, 0.01, 40))
    first, second = loss_uncertainties(frontier(few, many))
    assert (first.n, second.n) == (5, 5)
    assert first.expected_best == few.random_losses.min()
    assert second.expected_best > many.random_losses.min() + 0.005


def test_a_spread_is_pooled_over_configurations() -> None:
    assert pooled_deviation([(1.0, 3.0), (10.0, 10.0), (5.0,)]) == 1.0
    assert np.isnan(pooled_deviation([(5.0,)]))


def test_missing_noise_is_named_with_its_remedy() -> None:
    bare = frontier(entry(2000, 0.4), entry(20_000, 0.39))
    lines = uncertainty_table.uncertainty_sentences(bare)
    assert any("no random trial" in line and "--random-share" in line for line in lines)
    assert any("Winner's curse unknown for 2K, 20K" in line and "REPLICATES=3" in line for line in lines)


@pytest.fixture
def store(store_root: Path) -> Store:
    """Return a store of one budget with searched, random, diverged, replicated and crashed runs and two baselines."""
    store = open_store(store_root)
    add_run(store, "0000 d4 L2 h1 ff2", loss=0.50, by="enqueued")
    add_run(store, "0001 d4 L2 h1 ff2", loss=0.40, by="tpe")
    for number, loss in ((2, 0.47), (3, 0.43)):
        add_run(store, f"000{number} d4 L2 h1 ff2", loss=loss, by="random")
    add_run(store, "0004 d4 L2 h1 ff2", loss=0, by="random", outcome="diverged")
    add_run(store, "0005 d4 L2 h1 ff2", loss=0, by="random", outcome="crashed")
    for seed, loss in ((1, 0.44), (2, 0.46)):
        add_run(store, "0001 d4 L2 h1 ff2", kind="replicate", loss=loss, seed=seed, by="replicate")
    add_run(store, "prior", kind="baseline", loss=BASE_RATE_LOSS)
    add_run(store, "logistic", kind="baseline", loss=0.41, skilful=0.2)
    return store


def test_a_store_is_read_into_layers(store: Store) -> None:
    (question,) = frontiers(store, None)
    (result,) = question.entries
    assert sorted(result.random_losses) == [0.43, 0.47, BASE_RATE_LOSS]
    assert (result.complete, result.failed) == (4, 2)
    (uncertainty,) = loss_uncertainties(question)
    assert (uncertainty.naive_best, uncertainty.n, uncertainty.expected_best, uncertainty.fresh_seeds) == (0.40, 3, 0.43, 2)
    assert uncertainty.fresh_mean == pytest.approx(0.45)
    assert uncertainty.curse == pytest.approx(-0.05)
    assert uncertainty.seed == pytest.approx(0.02 / 2**0.5)
    assert (uncertainty.rival, uncertainty.validation > 0) == ("logistic", True)


def test_replicates_are_not_trials_and_both_tables_fit(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    from analysis.options import LeaderboardOptions

    (question,) = frontiers(store, None)
    assert len(question.trials) == 4
    leaderboard.main(LeaderboardOptions(store=store.root, figures=True))
    printed = capsys.readouterr().out
    table = [line.rstrip() for line in printed.splitlines() if "2K " in line or "logistic" in line]
    assert max(len(line) for line in printed.splitlines() if line.startswith((" 2K", " logistic", " budget"))) <= 120
    assert any("0.4500 ± 0.0100 (2)" in line and "+0.0500" in line for line in table)
    assert "Winner's curse (mean of fresh seeds - naive best): 2K +0.0500 nats" in printed
    for name in ("tuning", "learning", "calibration"):
        for suffix in ("png", "pdf", "csv"):
            assert len(list((store.root / "reports").glob(f"{name}-*.{suffix}"))) == 1
