"""The report on one table: the law, its intervals, the candidates, the verdict. Numbers only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from analysis.laws.fit import DELTA, Fit, fit_laws
from analysis.laws.observations import Observations, budgets
from analysis.laws.prediction import admissible
from analysis.laws.resampling import RESAMPLES, Bootstrap, bootstrap
from analysis.laws.validation import FEWEST, Validation, validate
from analysis.laws.verdicts import FEWEST as FEWEST_FOR_A_VERDICT
from analysis.laws.verdicts import Verdict, verdict
from research.errors import InputError, require

NOT_HELD_OUT = "not_held_out"
"""Flag: too few budgets to hold one out, so the law was chosen by its fit."""


@dataclass(frozen=True, kw_only=True)
class LawReport:
    """The contents of `tapescale scaling --csv`."""

    fit: Fit
    """Fit of the requested law, or of the law that predicts best."""
    bootstrap: Bootstrap
    resamples: int
    candidates: tuple[Fit, ...]
    """Fits of all laws that were tried."""
    validation: Validation | None
    """Errors on held-out budgets; None if no budget can be held out."""
    verdict: Verdict | None
    """Verdict on size; None below three budgets, and for tables with D, where N does not vary alone."""
    flags: tuple[str, ...]

    def to_json(self) -> str:
        """Return one JSON object on one line."""
        validation = self.validation
        document: dict[str, Any] = {
            "law": self.fit.law.name,
            "formula": self.fit.law.formula,
            "params": self.fit.parameters,
            "objective": self.fit.objective,
            "standard_errors": self.bootstrap.standard_errors,
            "intervals": self.bootstrap.intervals,
            "flags": self.flags,
            "delta": self.fit.delta,
            "n_points": self.fit.n_points,
            "starts_agree": self.fit.starts_agree,
            "bootstrap": {"resamples": self.resamples, "clusters": self.bootstrap.n_clusters},
            "chosen": validation.chosen if validation else None,
            "candidates": [
                {
                    "law": fit.law.name,
                    "params": fit.parameters,
                    "objective": fit.objective,
                    "held_out_error": validation.scores.get(fit.law.name) if validation else None,
                    "flags": fit.flags,
                }
                for fit in self.candidates
            ],
            "validation": asdict(validation) if validation else None,
            "verdict": asdict(self.verdict) if self.verdict else None,
        }
        return json.dumps(document, allow_nan=False)


def report(
    table: Observations,
    law: str = "all",
    *,
    delta: float = DELTA,
    resamples: int = RESAMPLES,
    holdout_largest: bool = False,
) -> LawReport:
    """Fit the laws, validate them on held-out budgets, choose one and return its report with the verdict.

    With `holdout_largest` only the validation uses the largest budget. `InputError` if there are too few budgets for that,
    or too few rows for any law.
    """
    budget = budgets(table.n)
    last = int(budget.max())
    if holdout_largest:
        require(last >= FEWEST, "HOLDOUT_LARGEST", f"{last + 1} budgets", f"give at least {FEWEST + 1} to hold one out.")
    fitted = table.rows(budget < last) if holdout_largest else table
    names = ["constant"] if law == "constant" else ["constant", law]
    fits = fit_laws(fitted, law if law == "all" else names, delta=delta)
    validation = validate(table, law, largest_only=holdout_largest, delta=delta) if last >= FEWEST else None
    fit = _reported(law, fits, fitted, validation)
    has_verdict = fitted.d is None and int(budgets(fitted.n).max()) + 1 >= FEWEST_FOR_A_VERDICT
    return LawReport(
        fit=fit,
        bootstrap=bootstrap(fit, fitted, resamples=resamples),
        resamples=resamples,
        candidates=fits,
        validation=validation,
        verdict=verdict(fitted.n, fitted.loss) if has_verdict else None,
        flags=(*fit.flags, *(() if validation else (NOT_HELD_OUT,))),
    )


def _reported(law: str, fits: tuple[Fit, ...], table: Observations, validation: Validation | None) -> Fit:
    """Return the requested fit, else the one chosen by validation, else the one that describes the table best."""
    by_name = {fit.law.name: fit for fit in fits}
    if law != "all":
        return by_name[law]
    if validation:
        return by_name[validation.chosen]
    candidates = admissible(fits, table)
    if not candidates:
        raise InputError(f"n={len(table)} rows: too few to fit any law; give at least two distinct runs.")
    return min(candidates, key=lambda fit: fit.objective / (fit.n_points - fit.law.n_parameters))
