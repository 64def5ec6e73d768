"""Two models named by run, budget or baseline, found in the store and compared on the days they share. Numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.results.frontier import Frontier
from analysis.results.model_confidence_set import ConfidenceSetMember, confidence_set
from research.counts import parse_count
from research.errors import InputError, require
from research.evaluation.forecast_tests import PairTest, holm, pair_test
from research.evaluation.significance import daily_means, is_significant
from research.tracking import query, schema
from research.tracking.run_lookup import run_with_id
from research.tracking.store import Store

SHORTEST_PREFIX = 4
"""Letters of a run id, at least: fewer would be taken for a budget or find too many."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One run of one question."""

    title: str
    run_id: str
    experiment: str
    features: str
    study: str
    """Fingerprint of data, features, question and split."""
    horizon: int

    @property
    def place(self) -> str:
        """Its question in a table's cell."""
        return f"h{self.horizon} {self.study[:6]}"

    @property
    def question(self) -> str:
        """Its question in few words."""
        return f"{self.experiment}, horizon {self.horizon}, {self.features}, study {self.study[:6]}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The first model against the second."""

    first: Model
    second: Model
    tests: PairTest
    holm_p: float
    """P-value of Diebold-Mariano, adjusted for all comparisons that were asked for at once."""

    @property
    def verdict(self) -> str:
        """A difference is called one only where the interval and the adjusted test agree."""
        found = self.tests.difference
        if not is_significant(found, self.holm_p):
            return "no difference shown"
        return f"{(self.first if found.mean < 0 else self.second).title} better"


def compare(store: Store, frontiers: Sequence[Frontier], a: str, b: str) -> list[Comparison]:
    """A against B at every question where both are; run ids and budgets and baselines may be mixed.

    `InputError` where a name finds nothing, finds several runs, or the two were not asked about the same days and labels.
    """
    firsts, seconds = models(store, frontiers, a, "A"), models(store, frontiers, b, "B")
    pairs = _pairs(firsts, seconds)
    fix = f"{a} and {b} are nowhere in the same question; see make leaderboard for what is."
    require(bool(pairs), "B", b, fix)
    compared = [_compare(store, *pair) for pair in pairs]
    adjusted = holm([one.tests.dm.p_value for one in compared])
    return [replace(one, holm_p=p_value) for one, p_value in zip(compared, adjusted, strict=True)]


def models(store: Store, frontiers: Sequence[Frontier], name: str, field: str = "A") -> list[Model]:
    """What a name stands for: a baseline or a budget's best trial at each question, or one run."""
    found = [model for frontier in frontiers for model in finalists(frontier) if _is_called(model, name)]
    return found or [_run(store, frontiers, name, field)]


def finalists(frontier: Frontier) -> list[Model]:
    """The best trial of each budget and the baselines of one question."""
    best = {entry.budget: entry.run_id for entry in frontier.entries}
    names = {**best, **{name: frontier.baseline_runs[name] for name in frontier.baseline_losses}}
    where = {"experiment": frontier.experiment, "features": frontier.features, "study": frontier.study}
    return [Model(title=name, run_id=run_id, horizon=frontier.horizon, **where) for name, run_id in names.items()]


def standings(frontier: Frontier) -> list[ConfidenceSetMember]:
    """Model confidence set over the best trial of each budget and the baselines."""
    best = {entry.budget: entry.day_losses for entry in frontier.entries}
    return confidence_set({**best, **frontier.baseline_losses})


def _is_called(model: Model, name: str) -> bool:
    wanted = name.strip().lower()
    if model.title.lower() == wanted:
        return True
    try:
        return parse_count(model.title, "budget", "parameters") == parse_count(name, "budget", "parameters")
    except InputError:
        return False


def _by_size(title: str) -> tuple[float, str]:
    """Budgets from small to large, then the baselines by name."""
    return (parse_count(title, "budget", "parameters") if title[0].isdigit() else float("inf"), title)


def _run(store: Store, frontiers: Sequence[Frontier], prefix: str, field: str) -> Model:
    known = sorted({model.title for frontier in frontiers for model in finalists(frontier)}, key=_by_size)
    fix = f"give a run id (its first characters are enough) or one of {', '.join(known)}"
    run = run_with_id(store, prefix, ("trial", "baseline", "replicate"), field=field, what="model or run", fix=fix)
    return Model(
        title=f"{run.run_id[:8]} ({run.name})",
        run_id=run.run_id,
        experiment=query.experiments(store)[run.experiment_id],
        features=str(run.params["feature_set"]),
        study=run.tags[schema.STUDY_FINGERPRINT],
        horizon=int(run.params["horizon"]),
    )


def _pairs(firsts: list[Model], seconds: list[Model]) -> list[tuple[Model, Model]]:
    """Those of one question; two single runs are paired in any case, their days decide."""
    if len(firsts) == len(seconds) == 1:
        return [(firsts[0], seconds[0])]
    return [(first, second) for first in firsts for second in seconds if first.question == second.question]


def _compare(store: Store, first: Model, second: Model) -> Comparison:
    mine, theirs = (query.predictions(store, model.run_id) for model in (first, second))
    for column, what in (("date", "days"), ("label", "labels")):
        fix = f"its {what} are not those of {first.title}: they answer different questions and cannot be compared."
        same = len(mine) == len(theirs) and np.array_equal(mine[column], theirs[column])
        require(same, "B", second.title, fix)
    tests = pair_test(_by_day(mine), _by_day(theirs), first.horizon)
    return Comparison(first=first, second=second, tests=tests, holm_p=tests.dm.p_value)


def _by_day(predictions: pd.DataFrame) -> np.ndarray:
    return daily_means(predictions["loss"].to_numpy(np.float64), predictions["date"].to_numpy())
