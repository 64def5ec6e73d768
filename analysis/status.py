"""`make status`: running sweeps, what they train, time left, stalls, and free disk space."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from analysis.options import StatusOptions

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from analysis.monitor.disk import Disk
    from analysis.monitor.sweep_progress import SweepState, Training
    from research.tracking.store import Store

FINISHED_SHOWN = 5


def main(options: StatusOptions) -> None:
    """Print once, or redraw until Ctrl-C."""
    from research.cli.console import console
    from research.errors import require
    from research.tracking.store import open_store

    require(options.watch is None or options.watch >= 1, "WATCH", options.watch, "give 1 second or more.")
    store = open_store(options.store, must_exist=True)
    if options.watch is None:
        console().print(status_view(store, options.experiment), crop=False)
    else:
        _redraw(store, options.experiment, options.watch)


def _redraw(store: Store, experiment: str | None, seconds: float) -> None:
    from rich.live import Live

    from research.cli.console import console

    with suppress(KeyboardInterrupt), Live(console=console(), auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            live.update(status_view(store, experiment), refresh=True)
            time.sleep(seconds)


def status_view(store: Store, experiment: str | None) -> Group:
    """Return running sweeps, the last ended ones and the disk, at this moment."""
    from rich.console import Group

    from analysis.monitor.disk import disk_under
    from analysis.monitor.sweep_progress import sweeps
    from research.cli.next_steps import with_store_argument

    running, finished = sweeps(store, experiment, FINISHED_SHOWN)
    blocks: list[Text | Table] = []
    for sweep in running:
        blocks += [_text(*sweep_lines(sweep)), *([_training_table(sweep.trainings)] if sweep.trainings else []), _text("")]
    if finished:
        blocks.append(_text("ended", *(f"  {ended_line(sweep)}" for sweep in finished), ""))
    if not running:
        where = f" in experiment {experiment}" if experiment else ""
        start = with_store_argument(store.root, "make sweep BUDGET=3K")
        blocks.append(_text(f"no sweep is running{where}; start one with `{start}`.", ""))
    return Group(*blocks, _text(disk_line(disk_under(store.root))))


def sweep_lines(sweep: SweepState) -> list[str]:
    """Return the lines on a running sweep; a stalled trial has a line that begins with `warning`."""
    from research.cli.console import duration

    counts = [f"{sweep.done} of {sweep.planned} trials done", f"{sweep.running} running", f"{sweep.left} left"]
    counts += [f"{sweep.replicates} replicates"] if sweep.replicates else []
    lines = [f"{sweep.name} on {sweep.experiment}: {', '.join(counts)}", f"  driver  {_driver(sweep)}"]
    if sweep.endings:
        lines.append(f"  ended   {', '.join(f'{count} {outcome}' for outcome, count in sweep.endings.items())}")
    if sweep.best:
        lines.append(f"  best    {sweep.best.name}: {sweep.best.n_params:,} parameters, val_loss {sweep.best.val_loss:.4f}")
    if sweep.seconds_per_trial is not None:
        left = "" if sweep.seconds_left is None else f", about {duration(sweep.seconds_left)} left"
        lines.append(f"  time    {duration(sweep.seconds_per_trial)} a trial (median){left}")
    return lines + [f"  warning {training.name}: {text}" for training in sweep.trainings if (text := _warning(training))]


def _driver(sweep: SweepState) -> str:
    from research.cli.console import duration

    heartbeat = f"{sweep.owner.process}, last heartbeat {duration(sweep.owner.silent_seconds)} ago"
    if sweep.owner.is_gone:
        return f"{heartbeat}; the driver is gone: the same command continues the sweep"
    if sweep.owner.is_stale:
        return f"{heartbeat}; the driver exists but is silent: suspended, or its store does not answer"
    return f"{heartbeat}, alive"


def _warning(training: Training) -> str:
    return f"{training.lost}, which trained it, is gone" if training.lost else training.pace.stall


def _training_table(trainings: list[Training]) -> Table:
    """Return one row per trial in training."""
    from research.cli.console import duration, plain_table

    table = plain_table("", ["trial", "epoch", "steps", "steps/s", "last step", "running for"], left=["trial"])
    for training in trainings:
        pace = training.pace
        table.add_row(
            training.name + ("" if training.kind == "trial" else f" ({training.kind})"),
            f"{training.epochs_done}/{training.epochs}",
            "-" if pace.step is None else f"{pace.step:,}",
            "-" if pace.steps_per_second is None else f"{pace.steps_per_second:,.3g}",
            "none yet" if pace.step is None else f"{duration(pace.silent_seconds)} ago",
            duration(training.seconds),
            style="bold red" if _warning(training) else "",
        )
    return table


def ended_line(sweep: SweepState) -> str:
    """Return one line on a sweep that has ended."""
    from research.cli.console import duration

    best = f", best {sweep.best.name} val_loss {sweep.best.val_loss:.4f}" if sweep.best else ""
    when = "" if sweep.ended_seconds_ago is None else f", {duration(sweep.ended_seconds_ago)} ago"
    return f"{sweep.name} on {sweep.experiment}: {sweep.outcome}, {sweep.done} of {sweep.planned} trials{best}{when}"


def disk_line(disk: Disk) -> str:
    """Return one line on the disk, with a warning if it is nearly full."""
    from research.cli.console import byte_size

    free = f"{byte_size(disk.free)} of {byte_size(disk.total)} free ({disk.free / disk.total:.0%})"
    low = "; warning: a sweep stops when the disk is full; free some space" if disk.is_low else ""
    return f"disk  {free}; checkpoints take {byte_size(disk.checkpoints)}{low}"


def _text(*lines: str) -> Text:
    """Lines as they are, warnings in red, never cut or broken."""
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ignore")
    for number, line in enumerate(lines):
        text.append("\n" if number else "").append(line, style="bold red" if "warning" in line or "gone:" in line else None)
    return text
