"""`make status`: running sweeps, what they train, how long it takes, what has stalled, and the room left."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from analysis.options import StatusOptions

if TYPE_CHECKING:
    from rich.console import Console, Group
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
        console().print(view(store, options.experiment))
    else:
        _redraw(store, options.experiment, options.watch, console())


def _redraw(store: Store, experiment: str | None, seconds: float, screen: Console) -> None:
    from rich.live import Live

    with suppress(KeyboardInterrupt), Live(console=screen, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            live.update(view(store, experiment), refresh=True)
            time.sleep(seconds)


def view(store: Store, experiment: str | None) -> Group:
    """Everything, as it is at this moment."""
    from rich.console import Group

    from analysis.monitor.disk import disk_under
    from analysis.monitor.sweep_progress import sweeps
    from research.cli.next_steps import with_store_argument

    running, finished = sweeps(store, experiment, FINISHED_SHOWN)
    blocks: list[Text | Table] = []
    for sweep in running:
        blocks += [_text(*sentences(sweep)), *([_trainings(sweep.trainings)] if sweep.trainings else []), _text("")]
    if finished:
        blocks.append(_text("ended", *(f"  {ending(sweep)}" for sweep in finished), ""))
    if not running:
        where = f" in experiment {experiment}" if experiment else ""
        start = with_store_argument(store.root, "make sweep BUDGET=3K")
        blocks.append(_text(f"no sweep is running{where}; start one with `{start}`.", ""))
    return Group(*blocks, _text(room(disk_under(store.root))))


def sentences(sweep: SweepState) -> list[str]:
    """What there is to say about a running sweep, the warnings marked."""
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
    return lines + [f"  warning {one.name}: {text}" for one in sweep.trainings if (text := _warning(one))]


def _driver(sweep: SweepState) -> str:
    heard = f"{sweep.owner.process}, last heard of {duration(sweep.owner.silent_seconds)} ago"
    if sweep.owner.is_gone:
        return f"{heard}; its driver is gone: start the same command again and it goes on"
    if sweep.owner.is_stale:
        return f"{heard}; it is there but silent: suspended, or its store is away"
    return f"{heard}, alive"


def _warning(one: Training) -> str:
    return f"{one.lost}, which trained it, is gone" if one.lost else one.pace.stall


def _trainings(trainings: list[Training]) -> Table:
    """One row per trial that is being trained."""
    from research.cli.console import plain_table

    table = plain_table("", ["trial", "epoch", "steps", "steps/s", "last step", "running for"])
    table.columns[0].justify = "left"
    for one in trainings:
        pace = one.pace
        table.add_row(
            one.name + ("" if one.kind == "trial" else f" ({one.kind})"),
            f"{one.epochs_done}/{one.epochs}",
            "-" if pace.step is None else f"{pace.step:,}",
            "-" if pace.steps_per_second is None else f"{pace.steps_per_second:,.3g}",
            "none yet" if pace.step is None else f"{duration(pace.silent_seconds)} ago",
            duration(one.seconds),
            style="bold red" if _warning(one) else "",
        )
    return table


def ending(sweep: SweepState) -> str:
    """One line about a sweep that has ended."""
    best = f", best {sweep.best.name} val_loss {sweep.best.val_loss:.4f}" if sweep.best else ""
    when = "" if sweep.ended_seconds_ago is None else f", {duration(sweep.ended_seconds_ago)} ago"
    return f"{sweep.name} on {sweep.experiment}: {sweep.outcome}, {sweep.done} of {sweep.planned} trials{best}{when}"


def room(disk: Disk) -> str:
    """One line about the disk, with a warning where it is nearly full."""
    free = f"{disk.free / 1e9:,.1f} GB of {disk.total / 1e9:,.1f} GB free ({disk.free / disk.total:.0%})"
    low = "; warning: a sweep stops when this is used up, free some" if disk.is_low else ""
    return f"disk  {free}; checkpoints take {disk.checkpoints / 1e6:,.1f} MB{low}"


def duration(seconds: float) -> str:
    """A time in the unit that reads best."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _text(*lines: str) -> Text:
    """Lines as they are, warnings in red, never cut or broken."""
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ignore")
    for number, line in enumerate(lines):
        text.append("\n" if number else "").append(line, style="bold red" if "warning" in line or "gone:" in line else None)
    return text


if __name__ == "__main__":
    from research.cli.run import run

    run(main, StatusOptions)
