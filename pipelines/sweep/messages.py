"""Printed opening and summary of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape

from pipelines.sweep.mlflow_views import sweep_link
from pipelines.sweep.parent_run import replicates_of
from pipelines.sweep.progress import results_table
from pipelines.sweep.replicates import ReplicateSummary
from pipelines.trial.job import TrialResult
from research.cli.console import print_line
from research.cli.next_steps import print_next, with_store_argument
from research.evaluation.significance import daily_means, paired_difference
from research.models.accounting import parameter_count
from research.models.budget import Budget
from research.spec import ArchitectureSpec
from research.task.task import Task
from research.tracking import schema
from research.tracking.query import predictions
from research.tracking.registry import RegisteredVersion
from research.tracking.schema import in_sentence

if TYPE_CHECKING:
    from pipelines.executors.choose import Layout
    from pipelines.sweep.state import Sweep


def print_opening(
    task: Task, budget: Budget, architectures: list[ArchitectureSpec], device: torch.device, console: Console
) -> None:
    """Print the data, the question, the evidence and the grid of a sweep."""
    manifest, target = task.snapshot.manifest, task.spec.target
    sizes = sorted(parameter_count(a) for a in architectures)
    for symbol in task.spec.data.symbols:
        facts = manifest.symbols[symbol]
        print_line(
            console,
            f"[bold]data[/]       {manifest.source}: {symbol}, {facts['rows']:,} sessions "
            f"{facts['first']} .. {facts['last']}, snapshot {task.snapshot.digest}",
        )
        for warning in manifest.warnings:
            if warning.startswith(f"{symbol}:"):
                print_line(console, f"[yellow]warning[/]    {warning}")
    columns = len(task.prepared.columns)
    print_line(console, f"[bold]question[/]   {target.question} features {task.spec.features.feature_set}, {columns} columns")
    unit = "days" if len(task.prepared.parts) == 1 else "windows"
    for one in task.evidence:
        hidden = one.split == "test"
        worth = f"worth {one.effective:,.0f} independent, base rate {one.base_rate:.3f} ± {one.base_rate_error:.3f}"
        rate = "closed until evaluation" if hidden else worth
        print_line(console, f"[bold]{one.split:<11}[/]{one.n:,} {unit}, {rate}")
    for sentence in task.thin:
        print_line(console, f"[red]thin evidence[/] {sentence}")
    print_line(
        console,
        f"[bold]budget[/]     {budget.label}: {len(architectures)} architectures of {sizes[0]:,} .. {sizes[-1]:,} "
        f"parameters; device {device.type}\n",
    )


def print_left_out(count: int, free: int, devices: int, console: Console) -> None:
    """Say that the search is narrower than the budget's grid, and why."""
    room = f"{devices} x {free / 1e9:.1f} GB" if devices > 1 else f"{free / 1e9:.1f} GB"
    print_line(
        console,
        f"[yellow]warning[/]    {count} more architectures do not fit the {room} that are free, not even one "
        "window at a time; they are not searched (make plan shows them)\n",
    )


def print_short_disk(needed: int, free: int, console: Console) -> None:
    """Say that checkpoints may not find room."""
    print_line(
        console,
        f"[yellow]warning[/]    a running trial's checkpoints take up to {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB of "
        "the disk are free; without them a stopped trial starts again from epoch 1 (--checkpoints names another folder)\n",
    )


def print_history(sweep: Sweep, layout: Layout, console: Console) -> None:
    """Say how trials will run, and that the sweep goes on where it was, if it does."""
    left = sweep.total - len(sweep.history.trials)
    cores = "1 thread" if layout.threads == 1 else f"{layout.threads} threads"
    how = "Ray tasks" if sweep.options.ray else "one trial at a time" if layout.workers == 1 else f"{layout.workers} processes"
    if left > 0:
        stacked = f", {layout.stack} trials of one architecture as one model" if layout.stack > 1 else ""
        short = ", products in bfloat16" if layout.precision == "bfloat16" else ""
        size = max(len(group) for group in layout.groups)
        spread = f", each on {size} devices (a trial that fits one is trained on the first)" if size > 1 else ""
        print_line(console, f"[bold]running[/]    {how}, {cores} each{spread}{stacked}{short}")
    if sweep.history.suggested:
        started_with = sweep.log.tags()[schema.GIT_COMMIT]
        if started_with != sweep.context.provenance.commit:
            changed = f"{started_with[:8]} to {sweep.context.provenance.commit[:8]}"
            print_line(
                console, f"[yellow]warning[/]    the code has changed since this sweep began, {changed}; each run names its own"
            )
        settled = len(sweep.history.trials)
        # Fewer trials may be planned than were begun.
        again = min(len(sweep.history.suggested) - settled, left)
        retried = f", {again} interrupted and continued" if again else ""
        print_line(
            console, f"[bold]resuming[/]   {settled} trials of this sweep are finished{retried}; TRIALS={sweep.total} in all"
        )
    print_line(console, "")


def print_summary(sweep: Sweep, registered: RegisteredVersion | None, console: Console) -> None:
    """Print the results, the best trial against each baseline, links to the runs, and the next commands."""
    if not console.is_terminal:
        console.print(results_table(sweep.finished, f"sweep {sweep.title} on {sweep.context.task.experiment}"))
    best = sweep.best
    if best is None:
        print_line(console, f"[red]no trial completed[/]; their reasons are on the runs of {sweep.log.run_id}.")
    else:
        print_line(console, f"\n[bold]best[/] {best.name}: {best.n_parameters:,} parameters, val_loss {best.val_loss:.4f}")
        for line in standings(sweep, best):
            print_line(console, f"  {line}")
        print_line(
            console,
            "  The best of several trials was chosen on these same days, which flatters it; the baselines were not chosen.",
        )
        if best.alarm != "none":
            print_line(console, f"  [red]alarm: {best.alarm}[/]; this model predicts nothing beyond the base rate.")
    for row in replicates_of(sweep):
        print_line(
            console,
            f"  {row.chosen.name} on {len(row.losses)} fresh seeds: {row.mean:.4f}{_spread(row)}, chosen at "
            f"{row.chosen.val_loss:.4f}" + (f"; {row.failed} failed" if row.failed else ""),
        )
    if registered:
        kept = f"; {registered.kept}" if registered.kept else ""
        print_line(console, f"\nregistered {registered.name} version {registered.version}{kept}")
    where = (sweep.context.store, sweep.context.experiment_id, sweep.log.run_id)
    pages = f"{escape(with_store_argument(sweep.options.store, 'make ui'))}, then " if sweep.context.store.is_local else ""
    print_line(console, f"see   {pages}{sweep_link(*where)}")
    print_line(console, f"      charts: {sweep_link(*where, charts=True)}")
    print_next(console, sweep.options.store, "make leaderboard", "make scaling", "make sweep BUDGET=<another size>")


def _spread(row: ReplicateSummary) -> str:
    """One seed has no standard deviation."""
    return f" ± {row.sd:.4f} (sd)" if len(row.losses) > 1 else ""


def standings(sweep: Sweep, best: TrialResult) -> list[str]:
    """Return a line per baseline with the paired loss difference, its interval and a verdict, and a line on the Bayes loss."""
    mine = _day_losses(sweep, best)
    lines = []
    for one in sweep.finished:
        if one.kind == "baseline" and one.outcome == "complete":
            found = paired_difference(mine, _day_losses(sweep, one))
            word = "better than" if found.mean < 0 else "worse than"
            verdict = f"{word} it, but inside the noise" if found.inside_noise else f"{word} it"
            lines.append(
                f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}] nats against {in_sentence(one.name)}: {verdict}"
            )
    return [*lines, *_above_the_floor(sweep, best)]


def _above_the_floor(sweep: Sweep, best: TrialResult) -> list[str]:
    """Return the distance to the Bayes loss of a synthetic market, or nothing for another market."""
    floor, scores = sweep.context.task.bayes, best.scores
    if floor is None or scores is None:
        return []
    share = (scores.base_rate_loss - scores.loss) / (scores.base_rate_loss - floor.realised)
    known = f"Bayes loss {floor.realised:.4f}, the lowest there is on these days"
    return [f"{scores.loss - floor.realised:+.4f} nats above the {known}; {share:.0%} of the way from the prior"]


def _day_losses(sweep: Sweep, one: TrialResult) -> NDArray[np.float64]:
    table = predictions(sweep.context.store, one.run_id)
    return daily_means(table["loss"].to_numpy(np.float64), table["date"].to_numpy())
