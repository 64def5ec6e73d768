"""Comparison of two models, named by run, budget or baseline, on their common days. Numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.results.frontier import Frontier
from analysis.results.model_confidence_set import ConfidenceSetMember, confidence_set
from research.counts import parse_count
from research.errors import InputError, require
from research.evaluation.forecast_tests import PairTest, holm, pair_test
from research.evaluation.significance import daily_means, is_significant
from research.tracking import query, schema
from research.tracking.run_lookup import run_with_id
from research.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class Model:
    """A run with its question."""

    title: str
    run_id: str
    experiment: str
    features: str
    study: str
    """Fingerprint of data, features, target and split."""
    horizon: int

    @property
    def place(self) -> str:
        """Short form of the question for a table cell."""
        return f"h{self.horizon} {self.study[:6]}"

    @property
    def question(self) -> str:
        """Description of the question in a few words."""
        return f"{self.experiment}, horizon {self.horizon}, {self.features}, study {self.study[:6]}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Tests of the first model against the second."""

    first: Model
    second: Model
    tests: PairTest
    holm_p: float
    """P-value of Diebold-Mariano, adjusted by Holm for all comparisons of one command."""

    @property
    def verdict(self) -> str:
        """The better model if the interval and the adjusted test agree, else `no difference shown`."""
        difference = self.tests.difference
        if not is_significant(difference, self.holm_p):
            return "no difference shown"
        return f"{(self.first if difference.mean < 0 else self.second).title} better"


def compare(store: Store, frontiers: Sequence[Frontier], a: str, b: str) -> list[Comparison]:
    """Return the comparison of A with B at every question that has both; run ids, budgets and baselines may be mixed.

    `InputError` if a name matches no run or several, or if the two have different days or labels.
    """
    firsts, seconds = models(store, frontiers, a, "A"), models(store, frontiers, b, "B")
    pairs = [(first, second) for first in firsts for second in seconds if first.question == second.question]
    if len(firsts) == len(seconds) == 1:
        # Two single runs are paired whatever their questions: their days and labels decide.
        pairs = [(firsts[0], seconds[0])]
    require(bool(pairs), "B", b, f"no question has both {a} and {b}; see make leaderboard for the models of each.")
    comparisons = [_compare(store, *pair) for pair in pairs]
    adjusted = holm([comparison.tests.dm.p_value for comparison in comparisons])
    return [replace(comparison, holm_p=p_value) for comparison, p_value in zip(comparisons, adjusted, strict=True)]


def models(store: Store, frontiers: Sequence[Frontier], name: str, field: str = "A") -> list[Model]:
    """Return the models of a name: a baseline or a budget's best trial at each question, or a single run."""
    matches = [model for frontier in frontiers for model in finalists(frontier) if _has_name(model, name)]
    return matches or [_run(store, frontiers, name, field)]


def finalists(frontier: Frontier) -> list[Model]:
    """Return the best trial of each budget and the baselines of one question."""
    best = {entry.budget: entry.run_id for entry in frontier.entries}
    names = {**best, **{name: frontier.baseline_runs[name] for name in frontier.baseline_losses}}
    question = {"experiment": frontier.experiment, "features": frontier.features, "study": frontier.study}
    return [Model(title=name, run_id=run_id, horizon=frontier.horizon, **question) for name, run_id in names.items()]


def standings(frontier: Frontier) -> list[ConfidenceSetMember]:
    """Return the model confidence set over the best trial of each budget and the baselines."""
    best = {entry.budget: entry.day_losses for entry in frontier.entries}
    return confidence_set({**best, **frontier.baseline_losses})


def _has_name(model: Model, name: str) -> bool:
    """Return whether the model has this title, or is of this budget in another notation."""
    if model.title.lower() == name.strip().lower():
        return True
    try:
        return parse_count(model.title, "budget", "parameters") == parse_count(name, "budget", "parameters")
    except InputError:
        return False


def _run(store: Store, frontiers: Sequence[Frontier], prefix: str, field: str) -> Model:
    """Return the single run with this id; `InputError` lists the budgets from small to large, then the baselines."""

    def by_size(title: str) -> tuple[float, str]:
        return (parse_count(title, "budget", "parameters") if title[0].isdigit() else float("inf"), title)

    titles = sorted({model.title for frontier in frontiers for model in finalists(frontier)}, key=by_size)
    fix = f"give a run id (its first characters are enough) or one of {', '.join(titles)}"
    run = run_with_id(store, prefix, ("trial", "baseline", "replicate"), field=field, what="model or run", fix=fix)
    return Model(
        title=f"{run.run_id[:8]} ({run.name})",
        run_id=run.run_id,
        experiment=query.experiments(store)[run.experiment_id],
        features=str(run.params["feature_set"]),
        study=run.tags[schema.STUDY_FINGERPRINT],
        horizon=int(run.params["horizon"]),
    )


def _compare(store: Store, first: Model, second: Model) -> Comparison:
    tables = [query.predictions(store, model.run_id) for model in (first, second)]
    for column, what in (("date", "days"), ("label", "labels")):
        fix = f"its {what} are not those of {first.title}: they answer different questions and cannot be compared."
        same = len(tables[0]) == len(tables[1]) and np.array_equal(tables[0][column], tables[1][column])
        require(same, "B", second.title, fix)
    losses, others = (daily_means(table["loss"].to_numpy(np.float64), table["date"].to_numpy()) for table in tables)
    tests = pair_test(losses, others, first.horizon)
    return Comparison(first=first, second=second, tests=tests, holm_p=tests.dm.p_value)
