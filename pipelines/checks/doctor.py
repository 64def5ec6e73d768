"""`make doctor`: check the machine, the environment and the store; FIX=1 repairs what is safe to repair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from pipelines.checks.machine_checks import CheckResult

PROBLEM = 1
"""Exit code if a problem remains."""
COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}
PIPE_WIDTH = 170
"""Width of the table in a pipe, in characters."""


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """Check packages, device, memory, disk, ports, checkout, store and data, and print fixes. Changes nothing unless FIX=1.

    examples:
      make doctor
      make doctor FIX=1
      tapescale doctor --store /data/mlruns --fix
    """

    fix: bool = False
    """Apply safe repairs: switch write-ahead logging on, correct artifact addresses after a move (with a backup), close
    runs whose process is gone, remove checkpoints of ended trials."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store; `MLFLOW_TRACKING_URI` names a server instead."""


def main(options: DoctorOptions) -> None:
    """Print one table; exit code 1 if a problem remains."""
    from research.cli.console import console, print_line
    from research.cli.next_steps import FIX, as_installed, with_store_argument

    screen = console(PIPE_WIDTH)
    results = list(findings(options.store))
    if options.fix:
        for line in apply_fixes(results):
            print_line(screen, line, markup=False)
        results = list(findings(options.store))
    screen.print(table_of(results))
    problems, warnings = (sum(result.verdict == verdict for result in results) for verdict in ("problem", "warning"))
    repairable = any(result.repair for result in results) and not options.fix
    hint = f" {with_store_argument(options.store, FIX)} repairs some of them." if repairable else ""
    print_line(screen, as_installed(f"problems: {problems}, warnings: {warnings}.{hint}"), markup=False)
    if problems:
        raise SystemExit(PROBLEM)


def findings(store: Path) -> Iterator[CheckResult]:
    """Yield the results of all checks; a check that raises an error counts as a problem and does not stop the others."""
    from pipelines.checks import machine_checks as machine

    root = store.resolve()
    yield machine.python_version()
    for check in (
        lambda: [machine.packages()],
        lambda: [machine.checkout()],
        machine.ports,
        lambda: _store(root),
        lambda: [machine.libraries()],
        lambda: [machine.device(), machine.memory()],
        lambda: [machine.disk(root)],
    ):
        yield from _result(check)


def _result(check: Callable[[], list[CheckResult]]) -> list[CheckResult]:
    import sqlite3

    from pipelines.checks.machine_checks import CheckResult

    try:
        return check()
    except (ImportError, OSError, ValueError, sqlite3.Error) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        return [CheckResult(check="this check", found=f"failed: {lines[0]}", verdict="problem", fix="see the other lines")]


def _store(root: Path) -> list[CheckResult]:
    import os

    from pipelines.checks.store_checks import server, snapshot_findings, store_findings

    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return [server(uri), *snapshot_findings(root)]
    return list(store_findings(root))


def apply_fixes(results: list[CheckResult]) -> Iterator[str]:
    """Apply all safe repairs; yield one line for each."""
    import sqlite3

    from research.errors import InputError

    for result in results:
        if result.repair is not None:
            try:
                yield f"fixed  {result.check}: {result.repair()}"
            except (InputError, OSError, sqlite3.Error) as error:
                yield f"left   {result.check}: {error}"


def table_of(results: list[CheckResult]) -> Table:
    """Return a table with one row per check; long results wrap."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from research.cli.next_steps import as_installed

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "found", "verdict", "what fixes it"):
        table.add_column(heading, no_wrap=heading in ("check", "verdict"), overflow="fold")
    for result in results:
        colour = COLOURS[result.verdict]
        found, fix = escape(as_installed(result.found)), escape(as_installed(result.fix))
        table.add_row(result.check, found, f"[{colour}]{result.verdict}[/]", fix)
    return table
