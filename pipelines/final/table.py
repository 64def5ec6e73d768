"""How an evaluation is printed: every number was computed before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

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
"""Of the references, by the name under which their logits stand."""


def print_evaluation(
    final: RunRecord,
    said: HoldoutPredictions,
    found: Evaluation,
    before: TestSetAccesses,
    run_id: str,
    console: Console,
    moved: WalkForwardEvaluation | None = None,
) -> None:
    """Tables, verdicts, how to read them and what to type next."""
    _say(console, _opening(final, said, before))
    console.print(_references(found, "log loss on the test days"))
    console.print(_groups("by year", "year", found.years))
    console.print(_groups("by trailing volatility (thirds of the test days)", "regime", found.regimes))
    console.print(_acting(found))
    console.print(_maps(found))
    if moved:
        console.print(_references(moved.evaluation, "all trained again before each calendar year, on what was known by then"))
        change = moved.against_frozen
        noise = ", inside the noise" if change.inside_noise else ""
        _say(console, [f"{_interval(change)} nats against the model that was not trained again{noise}", ""])
    _say(console, [*_calibration(found), *verdicts(found.against), *_ending(run_id, said.days.nunique())])


def verdicts(against: Mapping[str, BaselineComparison]) -> list[str]:
    """One sentence per reference, by its name."""
    return [
        f"{_interval(one.difference)} nats against {in_sentence(_title(name))}: {_verdict(one)}"
        for name, one in against.items()
    ]


def _title(name: str) -> str:
    return {"volatility": "volatility regression", "logistic": "logistic regression"}.get(name, TITLES.get(name, name))


def _verdict(one: BaselineComparison) -> str:
    direction = "better than it" if one.difference.mean < 0 else "worse than it"
    if one.difference.inside_noise:
        return f"{direction}, but inside the noise"
    return direction if one.is_significant else f"{direction}, but not shown: Diebold-Mariano does not agree (p {one.dm_p:.3f})"


def _opening(final: RunRecord, said: HoldoutPredictions, before: TestSetAccesses) -> list[str]:
    lines = [
        f"opened     test days {said.days.min():%Y-%m-%d} .. {said.days.max():%Y-%m-%d}, {len(said.labels):,} rows, "
        f"base rate {said.labels.mean():.3f} ({said.base_rate:.3f} in training)",
        f"model      {final.name} (run {final.run_id[:12]}): {int(final.metrics['n_params']):,} parameters, "
        f"mean probability of {len(said.seeds)} seed{'s' * (len(said.seeds) != 1)}",
    ]
    if before.same:
        seen = f"this model has seen these days {_times(before.same)}"
        lines.append(f"warning    SECOND LOOK: {seen}; what follows is no test any more.")
    elif before.related:
        seen = f"this configuration has seen these days {_times(before.related)}, on other seeds or under another calibration"
        lines.append(f"warning    NO FRESH TEST: {seen}; what follows was known in the main.")
    elif before.any:
        lines.append(
            f"warning    these test days have been opened {_times(before.any)} before, for other models of the question."
        )
    if before.others:
        seen = f"other questions have opened these test days {_times(sum(before.others.values()))} before"
        lines.append(f"warning    {seen}: {questions_as_text(before.others)}; the best of several looks better by chance.")
    return lines


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _references(found: Evaluation, title: str) -> Table:
    table = _table(title, ["", "log loss", "AUC", "skill of model", "model - reference"])
    loss = f"{found.loss.mean:.4f} [{found.loss.low:.4f}, {found.loss.high:.4f}]"
    auc = f"{found.auc.mean:.3f} [{found.auc.low:.3f}, {found.auc.high:.3f}]" if found.auc else "-"
    table.add_row("model", loss, auc, "", "", end_section=True)
    for name, one in found.against.items():
        cells = [f"{one.loss:.4f}", f"{one.auc:.3f}", f"{one.skill:+.3f}", _interval(one.difference)]
        table.add_row(TITLES.get(name, name), *cells, style="cyan")
    return table


def _groups(title: str, column: str, groups: Sequence[Subgroup]) -> Table:
    table = _table(title, [column, "rows", "base rate", "log loss", "skill", "AUC"])
    for one in groups:
        numbers = [f"{one.base_rate:.3f}", f"{one.loss:.4f}", f"{one.skill:+.3f}", _auc(one)]
        table.add_row(one.name, f"{one.rows:,}", *numbers)
    return table


def _auc(one: Subgroup) -> str:
    """A part of the days may hold one class alone: nothing can be ranked there."""
    return "-" if isnan(one.auc) else f"{one.auc:.3f} ± {one.auc_se:.3f}"


def _acting(found: Evaluation) -> Table:
    title = "saying yes at thresholds that were chosen on validation days"
    table = _table(title, ["rule", "threshold", "precision", "of said", "recall", "of positives"])
    for rule, one in found.acting.items():
        counts = [f"{one.precision:.3f}", f"{one.said_yes:,}", f"{one.recall:.3f}", f"{one.positives:,}"]
        table.add_row(rule, f"{one.threshold:.3f}", *counts)
    return table


def _calibration(found: Evaluation) -> list[str]:
    b, mine = found.brier, found.calibrations[found.carried]
    return [
        f"Brier {b.brier:.4f} = reliability {b.reliability:.4f} - resolution {b.resolution:.4f} "
        f"+ uncertainty {b.uncertainty:.4f} {b.within:+.4f} within bins",
        f"calibration error {found.scores.ece:.4f} (ten bins of equal mass; chance alone gives "
        f"{found.ece_by_chance:.4f})   PR-AUC {found.average_precision:.3f}",
        f"the model carries calibration {found.carried}: slope {_told(mine.slope, '.2f')}, 1 is calibrated, below 1 too sure; "
        f"bias {_told(mine.bias, '+.3f')}, mean said - seen",
        *_seeds(found),
    ]


def _maps(found: Evaluation) -> Table:
    title = "calibration, by maps that were fitted on validation days"
    table = _table(title, ["", "log loss", "- none", "Brier", "ECE", "slope", "bias"])
    for name, one in found.calibrations.items():
        difference = "" if name == "none" else _interval(one.difference)
        numbers = [f"{one.loss:.4f}", difference, f"{one.brier:.4f}", f"{one.ece:.4f}"]
        style = "" if name == found.carried else "dim"
        table.add_row(name, *numbers, _told(one.slope, ".2f"), f"{one.bias.value:+.3f}", style=style)
    return table


def _seeds(found: Evaluation) -> list[str]:
    if isnan(found.seed_coverage):
        return []
    return [
        f"90% interval over seeds: holds {found.seed_coverage:.1%} of what a left-out seed says; noise of training, not of days"
    ]


def _told(one: Interval, form: str) -> str:
    return f"{one.value:{form}} [{one.low:{form}}, {one.high:{form}}]"


def _ending(run_id: str, days: int) -> list[str]:
    return [
        f"[95%]: circular block bootstrap over the test days, blocks of {block_length(days)}; differences are paired by day.",
        "±: one standard error that takes days as independent, too small where volatility persists.",
        "references were fitted on the same rows as the model; the rolling prior knows the labels of the last 252 days.",
        f"logged as evaluation {run_id[:12]}, with every prediction as Parquet",
    ]


def _interval(one: Difference) -> str:
    return f"{one.mean:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    return table


def _say(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
