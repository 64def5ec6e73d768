"""Answers to questions about architectures, from the trials of a store. Numbers only."""

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
    """Effects of the architecture on the loss at each budget of one question."""

    frontier: Frontier
    curves: dict[str, ShapeCurve | None]
    """Budget -> loss against depth / width; None if there are too few random trials."""
    curve_p: dict[str, float]
    """Budget -> p-value that the ratio matters, adjusted by Holm over all curves of the store."""
    importances: dict[str, Importance | None]
    """Budget -> contribution of each setting; None if there are too few trials."""

    def best_is_known(self, budget: str) -> bool:
        """Return whether the curve is significant and has its lowest point inside the tried range."""
        curve = self.curves[budget]
        return curve is not None and self.curve_p[budget] < LEVEL and not curve.is_at_edge

    def points(self) -> pd.DataFrame:
        """Return all numbers of the curves' figure.

        Columns what (trial or curve), budget, ratio, loss, low, high, proposed_by.
        """
        trials = self.frontier.trials
        ratio = trials["n_layers"] / trials["d_model"]
        tried = trials[["budget", schema.PROPOSED_BY]].assign(what="trial", ratio=ratio, loss=trials["val_loss"])
        fitted = [curve.curve.assign(what="curve", budget=budget) for budget, curve in self.curves.items() if curve]
        return pd.concat([tried, *fitted], ignore_index=True)

    def heat_map(self, budget: str) -> pd.DataFrame:
        """Return one row per tried depth and width: n_layers, d_model, trials, median_loss, lowest_loss."""
        trials = self.frontier.trials[self.frontier.trials["budget"] == budget]
        cells = trials.groupby(["n_layers", "d_model"])["val_loss"].agg(trials="size", median_loss="median", lowest_loss="min")
        return cells.reset_index().astype({"n_layers": int, "d_model": int})


@dataclass(frozen=True, kw_only=True)
class OptimumShift:
    """Test of whether the best depth / width changes along one axis."""

    along: str
    """`budget` or `horizon`."""
    at: str
    """Fixed value of the other axis."""
    ratios: dict[str, float]
    """Best ratio by value along the axis, where the ratio is known."""
    p_value: float
    """P-value of the hypothesis that all best ratios are equal; NaN below two."""


def effects(frontiers: Sequence[Frontier]) -> list[Effects]:
    """Return the effects of each question, in the order of `frontiers`."""
    curves_by_question = [
        {
            e.budget: shape_curve(f.trials[f.trials["budget"] == e.budget], e.budget, f.horizon, f.base_rate_loss)
            for e in f.entries
        }
        for f in frontiers
    ]
    fitted = [curve for curves in curves_by_question for curve in curves.values() if curve]
    adjusted = dict(zip(map(id, fitted), holm([curve.p_value for curve in fitted]), strict=True))
    return [
        Effects(
            frontier=frontier,
            curves=curves,
            curve_p={budget: adjusted[id(curve)] if curve else float("nan") for budget, curve in curves.items()},
            importances={
                entry.budget: importance(frontier.trials[frontier.trials["budget"] == entry.budget], frontier.base_rate_loss)
                for entry in frontier.entries
            },
        )
        for frontier, curves in zip(frontiers, curves_by_question, strict=True)
    ]


def optimum_shifts(all_effects: Sequence[Effects]) -> list[OptimumShift]:
    """Return the shifts along budgets, then those along horizons.

    A shift along budgets is within one question; one along horizons is at one budget of questions that differ in the
    horizon only.
    """
    significant = [
        (effects.frontier, budget, curve)
        for effects in all_effects
        for budget, curve in effects.curves.items()
        if curve is not None and effects.best_is_known(budget)
    ]
    by_question = _grouped(significant, lambda frontier, _: (*frontier.question, f"horizon {frontier.horizon}"))
    by_budget = _grouped(significant, lambda frontier, budget: (*frontier.question, budget))
    return [
        *(_shift("budget", at, {curve.budget: curve for curve in curves}) for at, curves in by_question.items()),
        *(_shift("horizon", at, {f"h{curve.horizon}": curve for curve in curves}) for at, curves in by_budget.items()),
    ]


def _grouped(
    significant: Sequence[tuple[Frontier, str, ShapeCurve]], key: Callable[[Frontier, str], tuple[str, ...]]
) -> dict[tuple[str, ...], list[ShapeCurve]]:
    """Group curves by a key of frontier and budget; groups of one are dropped."""
    groups: dict[tuple[str, ...], list[ShapeCurve]] = {}
    for frontier, budget, curve in significant:
        groups.setdefault(key(frontier, budget), []).append(curve)
    return {at: curves for at, curves in groups.items() if len(curves) > 1}


def _shift(along: str, at: tuple[str, ...], curves: dict[str, ShapeCurve]) -> OptimumShift:
    ratios = {value: curve.best for value, curve in curves.items()}
    return OptimumShift(along=along, at=f"{at[0]}, {at[-1]}", ratios=ratios, p_value=heterogeneity(list(curves.values())))
