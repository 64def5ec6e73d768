"""Everything that is said about one table: the law, its intervals, its rivals, the verdict. Numbers only."""

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
"""Flag: too few budgets to hold one out, so the law was chosen by how it describes what it was fitted to."""


@dataclass(frozen=True, kw_only=True)
class LawReport:
    """What `tapescale scaling --csv` prints."""

    fit: Fit
    """Of the law that was asked for, or of the one that predicts best."""
    bootstrap: Bootstrap
    resamples: int
    candidates: tuple[Fit, ...]
    validation: Validation | None
    """None where no budget can be held out."""
    verdict: Verdict | None
    """None for fewer than three budgets, and for tables with D, where N does not vary alone."""
    flags: tuple[str, ...]

    def to_json(self) -> str:
        """One JSON object on one line."""
        held = self.validation
        found: dict[str, Any] = {
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
            "chosen": held.chosen if held else None,
            "candidates": [
                {
                    "law": fit.law.name,
                    "params": fit.parameters,
                    "objective": fit.objective,
                    "held_out_error": held.scores.get(fit.law.name) if held else None,
                    "flags": fit.flags,
                }
                for fit in self.candidates
            ],
            "validation": asdict(held) if held else None,
            "verdict": asdict(self.verdict) if self.verdict else None,
        }
        return json.dumps(found, allow_nan=False)


def report(
    table: Observations,
    law: str = "all",
    *,
    delta: float = DELTA,
    resamples: int = RESAMPLES,
    holdout_largest: bool = False,
) -> LawReport:
    """Fit, choose, validate and judge. With `holdout_largest` nothing but the validation sees the largest budget."""
    place = budgets(table.n)
    last = int(place.max())
    if holdout_largest:
        require(last >= FEWEST, "HOLDOUT_LARGEST", f"{last + 1} budgets", f"give at least {FEWEST + 1} to hold one out.")
    fitted = table.rows(place < last) if holdout_largest else table
    names = ["constant"] if law == "constant" else ["constant", law]
    fits = fit_laws(fitted, law if law == "all" else names, delta=delta)
    held = validate(table, law, largest_only=holdout_largest, delta=delta) if last >= FEWEST else None
    fit = _reported(law, fits, fitted, held)
    judged = fitted.d is None and int(budgets(fitted.n).max()) + 1 >= FEWEST_FOR_A_VERDICT
    return LawReport(
        fit=fit,
        bootstrap=bootstrap(fit, fitted, resamples=resamples),
        resamples=resamples,
        candidates=fits,
        validation=held,
        verdict=verdict(fitted.n, fitted.loss) if judged else None,
        flags=(*fit.flags, *(() if held else (NOT_HELD_OUT,))),
    )


def _reported(law: str, fits: tuple[Fit, ...], table: Observations, held: Validation | None) -> Fit:
    by_name = {fit.law.name: fit for fit in fits}
    if law != "all":
        return by_name[law]
    if held:
        return by_name[held.chosen]
    able = admissible(fits, table)
    if not able:
        raise InputError(f"n={len(table)} rows: too few to fit any law; give at least two distinct runs.")
    return min(able, key=lambda fit: fit.objective / (fit.n_points - fit.law.n_parameters))
