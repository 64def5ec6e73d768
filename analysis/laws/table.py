"""A report as tables in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from analysis.laws.flags import MEANINGS
from analysis.laws.report import NOT_HELD_OUT, LawReport
from analysis.laws.validation import Validation
from research.cli.console import plain_table


def show(found: LawReport, screen: Console) -> None:
    """Parameters, rivals, held-out budgets, verdict and flags."""
    screen.print(_parameters(found))
    if len(found.candidates) > 1:
        screen.print(_candidates(found))
    if found.validation:
        screen.print(_windows(found.validation, found.fit.law.name))
    for line in _sentences(found):
        screen.print(line, soft_wrap=True, highlight=False)


def _parameters(found: LawReport) -> Table:
    fit, drawn = found.fit, found.bootstrap
    title = (
        f"{fit.law.name}: loss = {fit.law.formula}, {fit.n_points} points; sum of Huber({fit.delta:g}) on log loss "
        f"{fit.objective:.7g}; {found.resamples:,} draws of {drawn.n_clusters} clusters"
    )
    table = plain_table(title, ["parameter", "value", "standard error", "95% low", "95% high"])
    for name, value in fit.parameters.items():
        numbers = (value, drawn.standard_errors[name], *drawn.intervals[name])
        table.add_row(name, *(f"{number:.6g}" for number in numbers))
    return table


def _candidates(found: LawReport) -> Table:
    table = plain_table("laws tried", ["law", "parameters", "objective", "held-out error", "flags"])
    for fit in found.candidates:
        error = found.validation.scores.get(fit.law.name) if found.validation else None
        told = "-" if error is None else f"{error:.2%}"
        table.add_row(fit.law.name, str(fit.law.n_parameters), f"{fit.objective:.4g}", told, " ".join(fit.flags))
    return table


def _windows(held: Validation, law: str) -> Table:
    """Errors of the reported law, or of the chosen one where a window could not fit that."""
    table = plain_table(
        "held-out budgets: fitted to the smaller ones",
        ["fitted to N", "held out N", "losses", "law", "signed error", "in the 95% interval", "in that of parameters alone"],
    )
    for window in held.windows:
        name = law if law in window.signed_error else "constant"
        table.add_row(
            f"{window.fitted_to:.4g}",
            f"{window.held_out:.4g}",
            str(window.rows),
            name,
            f"{window.signed_error[name]:+.2%}",
            f"{window.coverage:.0%}",
            f"{window.coverage_of_parameters:.0%}",
        )
    return table


def _sentences(found: LawReport) -> list[str]:
    lines = []
    if found.validation:
        lines.append(
            f"chosen {found.validation.chosen}: smallest law within one standard error of the best on held-out budgets"
        )
    if found.verdict:
        lines.append(f"verdict {found.verdict.sentence()}")
    for flag in found.flags:
        meaning = "too few budgets to hold one out" if flag == NOT_HELD_OUT else MEANINGS.get(flag, MEANINGS["on_bound"])
        lines.append(f"flag {flag}: {meaning}")
    return lines
