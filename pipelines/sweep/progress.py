"""Live view of a sweep: a table of results and progress bars, or plain lines if there is no terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from pipelines.trial.job import Job, TrialResult
from research.cli.console import plain_table, print_line
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

    def print_above(self, text: str) -> None:
        """Print a line above the table."""
        print_line(self.console, text)

    def started(self, job: Job) -> None:
        """Add a progress bar for a trial that starts, possibly not for the first time."""
        self._forget(job.name)
        self._running[job.name] = self._progress.add_task(job.name, total=job.spec.training.epochs)
        self._draw()

    def show_epoch(self, job: Job, record: EpochRecord) -> None:
        """Show a finished epoch of a running trial."""
        description = f"{job.name}  val_loss {record.val_loss:.4f}"
        self._progress.update(self._running[job.name], completed=record.epoch, description=description)
        self._draw()

    def add_result(self, finished: TrialResult) -> None:
        """Add a run to the table."""
        self._finished.append(finished)
        if finished.kind == "trial":
            self._progress.advance(self._trials)

    def run_finished(self, finished: TrialResult) -> None:
        """Replace the progress bar of a finished run by its row."""
        self._forget(finished.name)
        self.add_result(finished)
        if self._live is None:
            self.print_above(_line(finished))
        self._draw()

    def _forget(self, name: str) -> None:
        if name in self._running:
            self._progress.remove_task(self._running.pop(name))

    def _draw(self) -> None:
        if self._live:
            self._live.update(Group(results_table(self._finished, self._title), self._progress))


def results_table(results: list[TrialResult], title: str) -> Table:
    """Return a table of finished runs, best first and failures last."""
    columns = ("run", "parameters", "val_loss", "skill", "AUC", "seconds", "by", "outcome")
    table = plain_table(title, columns, left=("run", "by", "outcome"))
    ranked = sorted((result for result in results if result.kind != "replicate"), key=lambda result: result.val_loss)
    for result in ranked[:ROWS_SHOWN]:
        table.add_row(*_cells(result), style="cyan" if result.kind == "baseline" else None)
    if len(ranked) > ROWS_SHOWN:
        table.caption = f"and {len(ranked) - ROWS_SHOWN} more"
    return table


def _cells(result: TrialResult) -> list[str]:
    size = f"{result.n_parameters:,}" if result.n_parameters else "-"
    duration = f"{result.seconds:.0f}" if result.kind != "baseline" and result.scores else "-"
    ending = [result.proposed_by, result.ending]
    if result.scores is None:
        return [result.name, size, "-", "-", "-", duration, *ending]
    s = result.scores
    return [result.name, size, f"{s.loss:.4f}", f"{s.skill:+.3f}", f"{s.auc:.3f} ± {s.auc_se:.3f}", duration, *ending]


def _line(result: TrialResult) -> str:
    name, size, loss, skill, auc, duration, _, outcome = _cells(result)
    reason = f" ({result.reason})" if result.reason else ""
    return f"{name:<32} {size:>13} params  val_loss {loss}  skill {skill}  AUC {auc}  {duration} s  {outcome}{reason}"
