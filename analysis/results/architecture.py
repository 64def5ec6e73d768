"""Everything about architectures that a store's trials support, question by question. Numbers only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.results.frontier import Frontier
from analysis.results.importance import Importance, importance
from analysis.results.shape_curve import LEVEL, ShapeCurve, heterogeneity, shape_curve
from research.evaluation.forecast_tests import holm
from research.tracking import schema


@dataclass(frozen=True, kw_only=True)
class Effects:
    """One question: by budget, what its trials say about architectures."""

    frontier: Frontier
    curves: dict[str, ShapeCurve | None]
    """Budget -> loss against depth / width; None where too few random trials were made."""
    curve_p: dict[str, float]
    """Budget -> p-value that the ratio matters, adjusted by Holm over all curves of the store."""
    importances: dict[str, Importance | None]
    """Budget -> what each setting contributes; None where too few trials were made."""

    def best_is_known(self, budget: str) -> bool:
        """Whether a curve has a lowest point inside what was tried, and is no chance."""
        curve = self.curves[budget]
        return curve is not None and self.curve_p[budget] < LEVEL and not curve.is_at_edge

    def points(self) -> pd.DataFrame:
        """Columns what (trial or curve), budget, ratio, loss, low, high, proposed_by: all that a figure of the curves shows."""
        trials = self.frontier.trials
        ratio = trials["n_layers"] / trials["d_model"]
        tried = trials[["budget", schema.PROPOSED_BY]].assign(what="trial", ratio=ratio, loss=trials["val_loss"])
        fitted = [curve.curve.assign(what="curve", budget=budget) for budget, curve in self.curves.items() if curve]
        return pd.concat([tried, *fitted], ignore_index=True)

    def heat_map(self, budget: str) -> pd.DataFrame:
        """Columns n_layers, d_model, trials, median_loss, lowest_loss: one row per depth and width that was tried."""
        trials = self.frontier.trials[self.frontier.trials["budget"] == budget]
        found = trials.groupby(["n_layers", "d_model"])["val_loss"].agg(trials="size", median_loss="median", lowest_loss="min")
        return found.reset_index().astype({"n_layers": int, "d_model": int})


@dataclass(frozen=True, kw_only=True)
class OptimumShift:
    """Whether the best depth / width is the same along one axis."""

    along: str
    """`budget` or `horizon`."""
    at: str
    """The value that the other one is held at."""
    ratios: dict[str, float]
    """Best ratio by value along the axis, where it is known."""
    p_value: float
    """That all are one and the same; NaN below two."""


def effects(frontiers: Sequence[Frontier]) -> list[Effects]:
    """One per question, in their order."""
    curves = [
        {
            e.budget: shape_curve(f.trials[f.trials["budget"] == e.budget], e.budget, f.horizon, f.base_rate_loss)
            for e in f.entries
        }
        for f in frontiers
    ]
    fitted = [curve for each in curves for curve in each.values() if curve]
    adjusted = dict(zip(map(id, fitted), holm([curve.p_value for curve in fitted]), strict=True))
    return [
        Effects(
            frontier=frontier,
            curves=each,
            curve_p={budget: adjusted[id(curve)] if curve else float("nan") for budget, curve in each.items()},
            importances={
                entry.budget: importance(frontier.trials[frontier.trials["budget"] == entry.budget], frontier.base_rate_loss)
                for entry in frontier.entries
            },
        )
        for frontier, each in zip(frontiers, curves, strict=True)
    ]


def optimum_shifts(found: Sequence[Effects]) -> list[OptimumShift]:
    """Along budgets at each question, and along horizons at each budget of questions that differ in the horizon only."""
    known = [
        (one.frontier, budget, curve)
        for one in found
        for budget, curve in one.curves.items()
        if curve is not None and one.best_is_known(budget)
    ]
    by_question = _grouped(known, lambda frontier, _: (*frontier.question, f"horizon {frontier.horizon}"))
    by_budget = _grouped(known, lambda frontier, budget: (*frontier.question, budget))
    return [
        *(_movement("budget", at, {curve.budget: curve for curve in curves}) for at, curves in by_question.items()),
        *(_movement("horizon", at, {f"h{curve.horizon}": curve for curve in curves}) for at, curves in by_budget.items()),
    ]


def _grouped(
    known: Sequence[tuple[Frontier, str, ShapeCurve]], key: Callable[[Frontier, str], tuple[str, ...]]
) -> dict[tuple[str, ...], list[ShapeCurve]]:
    groups: dict[tuple[str, ...], list[ShapeCurve]] = {}
    for frontier, budget, curve in known:
        groups.setdefault(key(frontier, budget), []).append(curve)
    return {at: curves for at, curves in groups.items() if len(curves) > 1}


def _movement(along: str, at: tuple[str, ...], curves: dict[str, ShapeCurve]) -> OptimumShift:
    ratios = {value: curve.best for value, curve in curves.items()}
    return OptimumShift(along=along, at=f"{at[0]}, {at[-1]}", ratios=ratios, p_value=heterogeneity(list(curves.values())))
