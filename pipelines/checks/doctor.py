"""`make doctor`: is this machine, this environment and this store in order? Says what to do, and does it with FIX=1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from pipelines.checks.machine_checks import CheckResult

PROBLEM = 1
"""Exit code where a problem remains."""
COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}
PIPE_WIDTH = 170
"""A pipe has no width of its own."""


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """Check packages, device, memory, disk, ports, checkout, store and data, and say what to do. Changes nothing unless asked.

    examples:
      make doctor
      make doctor FIX=1
      tapescale doctor --store /data/mlruns --fix
    """

    fix: bool = False
    """Do what is safe: switch write-ahead logging on, let artifact addresses begin with the store's present folder (after a
    backup), close runs whose process is gone, remove checkpoints of trials that have ended."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store; `MLFLOW_TRACKING_URI` names a server instead."""


def main(options: DoctorOptions) -> None:
    """Print one table; exit code 1 if a problem remains."""
    from rich.console import Console

    from research.cli.next_steps import FIX, as_installed, with_store_argument

    screen = Console()
    screen = screen if screen.is_terminal else Console(width=PIPE_WIDTH)
    found = list(findings(options.store))
    if options.fix:
        for line in apply_fixes(found):
            screen.print(line, markup=False, highlight=False, soft_wrap=True)
        found = list(findings(options.store))
    screen.print(table_of(found))
    problems, warnings = (sum(one.verdict == verdict for one in found) for verdict in ("problem", "warning"))
    fixed = any(one.mend for one in found) and not options.fix
    fixable = f" Some of it is fixed by {with_store_argument(options.store, FIX)}." if fixed else ""
    screen.print(
        as_installed(f"problems: {problems}, warnings: {warnings}.{fixable}"), highlight=False, markup=False, soft_wrap=True
    )
    if problems:
        raise SystemExit(PROBLEM)


def findings(store: Path) -> Iterator[CheckResult]:
    """All checks; one that fails itself is a problem of its own and does not keep the others from being told."""
    from pipelines.checks import machine_checks as checkups

    root = store.resolve()
    yield checkups.python_version()
    for check in (
        lambda: [checkups.packages()],
        lambda: [checkups.checkout()],
        checkups.ports,
        lambda: _store(root),
        lambda: [checkups.libraries()],
        lambda: [checkups.device(), checkups.memory()],
        lambda: [checkups.disk(root)],
    ):
        yield from _told(check)


def _told(check: Callable[[], list[CheckResult]]) -> list[CheckResult]:
    import sqlite3

    from pipelines.checks.machine_checks import CheckResult

    try:
        return check()
    except (ImportError, OSError, ValueError, sqlite3.Error) as problem:
        said = str(problem).splitlines() or [type(problem).__name__]
        return [CheckResult(check="this check", found=f"failed: {said[0]}", verdict="problem", fix="see the other lines")]


def _store(root: Path) -> list[CheckResult]:
    import os

    from pipelines.checks.store_checks import server, snapshot_findings, store_findings

    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return [server(uri), *snapshot_findings(root)]
    return list(store_findings(root))


def apply_fixes(found: list[CheckResult]) -> Iterator[str]:
    """Do what can be done safely; one line for each."""
    import sqlite3

    from research.errors import InputError

    for one in found:
        if one.mend is not None:
            try:
                yield f"fixed  {one.check}: {one.mend()}"
            except (InputError, OSError, sqlite3.Error) as problem:
                yield f"left   {one.check}: {problem}"


def table_of(found: list[CheckResult]) -> Table:
    """One line per check."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from research.cli.next_steps import as_installed

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "found", "verdict", "what fixes it"):
        table.add_column(heading, no_wrap=heading in ("check", "verdict"), overflow="fold")
    for one in found:
        colour = COLOURS[one.verdict]
        table.add_row(one.check, escape(as_installed(one.found)), f"[{colour}]{one.verdict}[/]", escape(as_installed(one.fix)))
    return table
