"""What one sees while a sweep runs: a table that fills, progress over trials and epochs; plain lines without a terminal."""

from __future__ import annotations

from types import TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from pipelines.trial.job import Job, TrialResult
from research.training.trial_state import EpochRecord

ROWS_SHOWN = 20


class SweepDisplay:
    """Shows a sweep and its running trials. Without a terminal it prints one line per finished run instead."""

    def __init__(self, console: Console, title: str, n_trials: int):
        self.console = console
        self._title = title
        self._finished: list[TrialResult] = []
        self._live = Live(console=console, auto_refresh=True, refresh_per_second=4) if console.is_terminal else None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._trials = self._progress.add_task("trials", total=n_trials)
        self._running: dict[str, TaskID] = {}

    def __enter__(self) -> SweepDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._draw()
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a sentence above the table."""
        self.console.print(text, soft_wrap=True, highlight=False)

    def started(self, job: Job) -> None:
        """A trial begins, perhaps again."""
        self._forget(job.name)
        self._running[job.name] = self._progress.add_task(job.name, total=job.spec.training.epochs)
        self._draw()

    def show_epoch(self, job: Job, record: EpochRecord) -> None:
        """An epoch of a running trial ended."""
        told = f"{job.name}  val_loss {record.val_loss:.4f}"
        self._progress.update(self._running[job.name], completed=record.epoch, description=told)
        self._draw()

    def recalled(self, finished: TrialResult) -> None:
        """A run of an earlier start goes into the table."""
        self._finished.append(finished)
        if finished.kind == "trial":
            self._progress.advance(self._trials)

    def run_finished(self, finished: TrialResult) -> None:
        """A trial, replicate or baseline ended."""
        self._forget(finished.name)
        self.recalled(finished)
        if self._live is None:
            self.say(_line(finished))
        self._draw()

    def _forget(self, name: str) -> None:
        if name in self._running:
            self._progress.remove_task(self._running.pop(name))

    def _draw(self) -> None:
        if self._live:
            self._live.update(Group(results_table(self._finished, self._title), self._progress))


def results_table(finished: list[TrialResult], title: str) -> Table:
    """Finished runs, best first, failures last."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("run", "parameters", "val_loss", "skill", "AUC", "seconds", "by", "outcome"):
        table.add_column(column, justify="left" if column in ("run", "by", "outcome") else "right", no_wrap=True)
    ranked = sorted((one for one in finished if one.kind != "replicate"), key=lambda one: one.val_loss)
    for one in ranked[:ROWS_SHOWN]:
        style = "cyan" if one.kind == "baseline" else None
        table.add_row(*_cells(one), style=style)
    if len(ranked) > ROWS_SHOWN:
        table.caption = f"and {len(ranked) - ROWS_SHOWN} more"
    return table


def _cells(one: TrialResult) -> list[str]:
    size = f"{one.n_parameters:,}" if one.n_parameters else "-"
    duration = f"{one.seconds:.0f}" if one.kind != "baseline" and one.scores else "-"
    ending = [one.proposed_by, one.ending]
    if one.scores is None:
        return [one.name, size, "-", "-", "-", duration, *ending]
    s = one.scores
    return [one.name, size, f"{s.loss:.4f}", f"{s.skill:+.3f}", f"{s.auc:.3f} ± {s.auc_se:.3f}", duration, *ending]


def _line(one: TrialResult) -> str:
    name, size, loss, skill, auc, duration, _, outcome = _cells(one)
    reason = f" ({one.reason})" if one.reason else ""
    return f"{name:<32} {size:>13} params  val_loss {loss}  skill {skill}  AUC {auc}  {duration} s  {outcome}{reason}"
