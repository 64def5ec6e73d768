"""The printed form of an evaluation: tables, verdicts and how to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

from rich.console import Console
from rich.table import Table

from research.cli.console import plain_table, print_line
from research.evaluation.calibration_effect import Interval
from research.evaluation.holdout import (
    BaselineComparison,
    Evaluation,
    HoldoutPredictions,
    Subgroup,
    TestSetAccesses,
    WalkForwardEvaluation,
)
from research.evaluation.significance import Difference, block_length
from research.tracking.query import RunRecord
from research.tracking.schema import BASELINE_TITLES, in_sentence
from research.tracking.test_set_access import questions_as_text

TITLES = {**BASELINE_TITLES, "prior": "training prior", "rolling_prior": "rolling prior"}
"""Reference -> its title in tables."""


def print_evaluation(
    final: RunRecord,
    predictions: HoldoutPredictions,
    evaluation: Evaluation,
    accesses: TestSetAccesses,
    run_id: str,
    screen: Console,
    walk_forward: WalkForwardEvaluation | None = None,
) -> None:
    """Print the opening with its warnings, all tables, the verdicts and how to read them."""
    for line in (*_opening(final, predictions), *_warnings(accesses)):
        print_line(screen, line, markup=False)
    screen.print(_references(evaluation, "log loss on the test days"))
    screen.print(_groups("by year", "year", evaluation.years))
    screen.print(_groups("by trailing volatility (thirds of the test days)", "regime", evaluation.regimes))
    screen.print(_decisions(evaluation))
    screen.print(_maps(evaluation))
    if walk_forward:
        title = "walk-forward: model and references trained again before each calendar year, on the rows known by then"
        screen.print(_references(walk_forward.evaluation, title))
        change = walk_forward.against_frozen
        noise = ", inside the noise" if change.inside_noise else ""
        print_line(screen, f"{_interval(change)} nats against the model that was not trained again{noise}\n", markup=False)
    for line in (*_calibration(evaluation), *verdicts(evaluation.against), *_notes(run_id, predictions.days.nunique())):
        print_line(screen, line, markup=False)


def verdicts(comparisons: Mapping[str, BaselineComparison]) -> list[str]:
    """Return one sentence per reference: the difference of losses, its interval and the verdict."""
    titles = {**TITLES, "volatility": "volatility regression", "logistic": "logistic regression"}
    return [
        f"{_interval(comparison.difference)} nats against {in_sentence(titles.get(name, name))}: {_verdict(comparison)}"
        for name, comparison in comparisons.items()
    ]


def _verdict(comparison: BaselineComparison) -> str:
    direction = "better than it" if comparison.difference.mean < 0 else "worse than it"
    if comparison.difference.inside_noise:
        return f"{direction}, but inside the noise"
    if comparison.is_significant:
        return direction
    return f"{direction}, but not significant by the Diebold-Mariano test (p {comparison.dm_p:.3f})"


def _opening(final: RunRecord, predictions: HoldoutPredictions) -> list[str]:
    days, labels, seeds = predictions.days, predictions.labels, len(predictions.seeds)
    return [
        f"opened     test days {days.min():%Y-%m-%d} .. {days.max():%Y-%m-%d}, {len(labels):,} rows, "
        f"base rate {labels.mean():.3f} ({predictions.base_rate:.3f} in training)",
        f"model      {final.name} (run {final.run_id[:12]}): {int(final.metrics['n_params']):,} parameters, "
        f"mean probability of {seeds} seed{'s' * (seeds != 1)}",
    ]


def _warnings(accesses: TestSetAccesses) -> list[str]:
    """Return what earlier accesses to the test days mean for these results."""

    def times(count: int) -> str:
        return "once" if count == 1 else f"{count} times"

    lines = []
    if accesses.same:
        lines.append(
            f"SECOND LOOK: this model was evaluated on these days {times(accesses.same)} before; "
            "results below are not an independent test."
        )
    elif accesses.related:
        lines.append(
            f"NO FRESH TEST: this configuration was evaluated on these days {times(accesses.related)} before, with other seeds "
            "or another calibration; results below were largely known."
        )
    elif accesses.any:
        lines.append(f"these test days have been opened {times(accesses.any)} before, for other models of the question.")
    if accesses.others:
        lines.append(
            f"other questions have opened these test days {times(sum(accesses.others.values()))} before: "
            f"{questions_as_text(accesses.others)}; the best of several evaluations looks better by chance."
        )
    return [f"warning    {line}" for line in lines]


def _table(title: str, columns: Sequence[str]) -> Table:
    return plain_table(title, columns, left=columns[:1])


def _references(evaluation: Evaluation, title: str) -> Table:
    table = _table(title, ["", "log loss", "AUC", "skill of model", "model - reference"])
    loss, auc = evaluation.loss, evaluation.auc
    auc_text = f"{auc.mean:.3f} [{auc.low:.3f}, {auc.high:.3f}]" if auc else "-"
    table.add_row("model", f"{loss.mean:.4f} [{loss.low:.4f}, {loss.high:.4f}]", auc_text, "", "", end_section=True)
    for name, reference in evaluation.against.items():
        numbers = [f"{reference.loss:.4f}", f"{reference.auc:.3f}", f"{reference.skill:+.3f}"]
        table.add_row(TITLES.get(name, name), *numbers, _interval(reference.difference), style="cyan")
    return table


def _groups(title: str, column: str, groups: Sequence[Subgroup]) -> Table:
    table = _table(title, [column, "rows", "base rate", "log loss", "skill", "AUC"])
    for group in groups:
        # A group whose labels are all of one class has no AUC.
        auc = "-" if isnan(group.auc) else f"{group.auc:.3f} ± {group.auc_se:.3f}"
        table.add_row(group.name, f"{group.rows:,}", f"{group.base_rate:.3f}", f"{group.loss:.4f}", f"{group.skill:+.3f}", auc)
    return table


def _decisions(evaluation: Evaluation) -> Table:
    title = "decisions at thresholds chosen on validation days"
    table = _table(title, ["rule", "threshold", "precision", "predicted positive", "recall", "actual positive"])
    for rule, decision in evaluation.acting.items():
        precision = [f"{decision.precision:.3f}", f"{decision.said_yes:,}"]
        table.add_row(rule, f"{decision.threshold:.3f}", *precision, f"{decision.recall:.3f}", f"{decision.positives:,}")
    return table


def _maps(evaluation: Evaluation) -> Table:
    title = "calibration maps, fitted on validation days"
    table = _table(title, ["", "log loss", "- none", "Brier", "ECE", "slope", "bias"])
    for name, scores in evaluation.calibrations.items():
        difference = "" if name == "none" else _interval(scores.difference)
        numbers = [f"{scores.loss:.4f}", difference, f"{scores.brier:.4f}", f"{scores.ece:.4f}"]
        style = "" if name == evaluation.carried else "dim"
        table.add_row(name, *numbers, _estimate(scores.slope, ".2f"), f"{scores.bias.value:+.3f}", style=style)
    return table


def _calibration(evaluation: Evaluation) -> list[str]:
    brier, scores = evaluation.brier, evaluation.calibrations[evaluation.carried]
    lines = [
        f"Brier {brier.brier:.4f} = reliability {brier.reliability:.4f} - resolution {brier.resolution:.4f} "
        f"+ uncertainty {brier.uncertainty:.4f} {brier.within:+.4f} within bins",
        f"calibration error {evaluation.scores.ece:.4f} (ten bins of equal mass; {evaluation.ece_by_chance:.4f} expected by "
        f"chance)   PR-AUC {evaluation.average_precision:.3f}",
        f"calibration of the model: {evaluation.carried}; slope {_estimate(scores.slope, '.2f')} (1 is calibrated, below 1 "
        f"overconfident); bias {_estimate(scores.bias, '+.3f')} (mean predicted - observed)",
    ]
    if not isnan(evaluation.seed_coverage):
        lines.append(
            f"90% interval over seeds: covers {evaluation.seed_coverage:.1%} of a held-out seed's predictions; "
            "it measures the noise of training, not of days"
        )
    return lines


def _notes(run_id: str, days: int) -> list[str]:
    return [
        f"[95%]: circular block bootstrap over the test days, blocks of {block_length(days)}; differences are paired by day.",
        "±: one standard error under independent days; it is too small where volatility persists.",
        "references were fitted on the same rows as the model; the rolling prior uses the labels of the last 252 days.",
        f"logged as evaluation {run_id[:12]}, with every prediction as Parquet",
    ]


def _estimate(interval: Interval, form: str) -> str:
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def _interval(difference: Difference) -> str:
    return f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
