"""Terminal tables of a law report."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from analysis.laws.flags import MEANINGS
from analysis.laws.report import NOT_HELD_OUT, LawReport
from analysis.laws.validation import Validation
from research.cli.console import plain_table


def show(report: LawReport, screen: Console) -> None:
    """Print parameters, candidates, held-out budgets, verdict and flags."""
    screen.print(_parameters(report))
    if len(report.candidates) > 1:
        screen.print(_candidates(report))
    if report.validation:
        screen.print(_windows(report.validation, report.fit.law.name))
    for line in _sentences(report):
        screen.print(line, soft_wrap=True, highlight=False)


def _parameters(report: LawReport) -> Table:
    fit, bootstrap = report.fit, report.bootstrap
    title = (
        f"{fit.law.name}: loss = {fit.law.formula}, {fit.n_points} points; sum of Huber({fit.delta:g}) on log loss "
        f"{fit.objective:.7g}; {report.resamples:,} draws of {bootstrap.n_clusters} clusters"
    )
    table = plain_table(title, ["parameter", "value", "standard error", "95% low", "95% high"])
    for name, value in fit.parameters.items():
        numbers = (value, bootstrap.standard_errors[name], *bootstrap.intervals[name])
        table.add_row(name, *(f"{number:.6g}" for number in numbers))
    return table


def _candidates(report: LawReport) -> Table:
    table = plain_table("laws tried", ["law", "parameters", "objective", "held-out error", "flags"])
    scores = report.validation.scores if report.validation else {}
    for fit in report.candidates:
        error = f"{scores[fit.law.name]:.2%}" if fit.law.name in scores else "-"
        table.add_row(fit.law.name, str(fit.law.n_parameters), f"{fit.objective:.4g}", error, " ".join(fit.flags))
    return table


def _windows(validation: Validation, law: str) -> Table:
    """Return the errors of the reported law, or of the constant law if a window could not fit it."""
    table = plain_table(
        "held-out budgets: fitted to the smaller ones",
        ["fitted to N", "held out N", "losses", "law", "signed error", "in the 95% interval", "in that of parameters alone"],
    )
    for window in validation.windows:
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


def _sentences(report: LawReport) -> list[str]:
    lines = []
    if report.validation:
        lines.append(
            f"chosen {report.validation.chosen}: smallest law within one standard error of the best on held-out budgets"
        )
    if report.verdict:
        lines.append(f"verdict {report.verdict.sentence()}")
    for flag in report.flags:
        meaning = "too few budgets to hold one out" if flag == NOT_HELD_OUT else MEANINGS.get(flag, MEANINGS["on_bound"])
        lines.append(f"flag {flag}: {meaning}")
    return lines
