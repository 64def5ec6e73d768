"""Checks of `make doctor` on the store: database, orphaned runs, leftover files, snapshots and their age."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.checks.machine_checks import CheckResult, some
from research.cli.console import byte_size
from research.cli.next_steps import FIX, with_store_argument
from research.tracking import schema
from research.tracking.run_record import RunRecord
from research.tracking.store import DATABASE

if TYPE_CHECKING:
    from research.tracking.maintenance import DatabaseState

SHORT_RUN_SECONDS = 3600.0
"""Age limit of an open run without an owner. Such a run, for example an evaluation, takes minutes."""
CHEAP_BYTES = 200e6
"""Snapshots up to this total size are read completely and compared with their digests."""
MOST_MISSED = 1
"""Missing sessions that still count as fresh, as in `make predict`."""
LEFT_OPEN = "closed by make doctor: its process was gone"


def store_findings(root: Path) -> Iterator[CheckResult]:
    """Yield all checks of a local store; a store that does not exist yet passes."""
    if root.exists() and not root.is_dir():
        yield CheckResult(
            check="store", found=f"{root} is a file", verdict="problem", fix="move it away, or give another --store"
        )
        return
    database = root / DATABASE
    if not database.exists():
        yield CheckResult(check="store", found=f"{root}: no runs yet; make sweep creates it")
    else:
        yield from database_findings(root)
    yield from snapshot_findings(root)


def snapshot_findings(root: Path) -> Iterator[CheckResult]:
    """Yield the checks of local snapshots, also when the runs are on a server."""
    yield from snapshots(root / "snapshots")
    yield from freshness(root / "snapshots")


def database_findings(root: Path) -> Iterator[CheckResult]:
    """Yield the checks of the database and, if it is readable, of its runs."""
    from research.tracking import sqlite_reader as sql
    from research.tracking.maintenance import database_state

    try:
        state = database_state(root)
    except (sqlite3.Error, TypeError) as error:
        fix = f"put a copy of {DATABASE} back, or move it away: make sweep then creates a new one"
        yield CheckResult(check="store", found=f"{root / DATABASE} cannot be read ({error})", verdict="problem", fix=fix)
        return
    if state.damage:
        fix = f"put a copy of {DATABASE} back"
        yield CheckResult(check="store", found=f"damaged: {state.damage}", verdict="problem", fix=fix)
        return
    yield CheckResult(check="store", found=f"{root}: sound, {byte_size((root / DATABASE).stat().st_size)}")
    if not os.access(root, os.W_OK) or not os.access(root / DATABASE, os.W_OK):
        yield CheckResult(check="store access", found="read only", verdict="problem", fix=f"chmod u+w {root} {root / DATABASE}")
    yield layout(root, state.revision)
    yield journal(root, state.journal)
    yield addresses(root, state)
    if state.revision == sql.REVISION:
        runs = sql.records(root / DATABASE, list(sql.experiments(root / DATABASE)), {})
        yield open_runs(root, runs)
        yield checkpoints(root, runs)
    yield locks(root)


def layout(root: Path, revision: str) -> CheckResult:
    """Check that the tables match the installed MLflow."""
    from research.tracking.sqlite_reader import REVISION

    if revision == REVISION:
        return CheckResult(check="MLflow tables", found=f"current ({revision})")
    fix = f"copy {DATABASE}, then .venv/bin/python -m mlflow db upgrade sqlite:///{root / DATABASE}"
    return CheckResult(
        check="MLflow tables", found=f"{revision}, not {REVISION}: another MLflow version", verdict="problem", fix=fix
    )


def journal(root: Path, mode: str) -> CheckResult:
    """Check that readers and writers do not block each other."""
    if mode == "wal":
        return CheckResult(check="journal", found="write-ahead")

    def repair() -> str:
        from research.tracking.maintenance import set_journal

        set_journal(root)
        return "write-ahead logging is on"

    fix = f"{with_store_argument(root, FIX)} switches write-ahead logging on"
    return CheckResult(check="journal", found=f"{mode}: slow, and readers wait", verdict="warning", fix=fix, repair=repair)


def addresses(root: Path, state: DatabaseState) -> CheckResult:
    """Check that MLflow's absolute addresses point into the store, not to its folder before a move or copy."""
    from research.tracking.maintenance import as_path, relocate

    moved = state.moved
    if not moved:
        return CheckResult(check="artifacts", found="their addresses point into the store")

    def repair() -> str:
        backup, changed = relocate(root)
        counts = ", ".join(f"{count} {column}" for column, count in changed.items())
        return f"addresses begin with {root} now ({counts}); the backup of the database is {backup.name}"

    if state.left_behind:
        fix = f"copy them into {root / 'artifacts'}, then {with_store_argument(root, FIX)}"
        found = f"{some([str(folder) for folder in state.left_behind])} were not copied with {DATABASE}"
        return CheckResult(check="artifacts", found=found, verdict="problem", fix=fix)

    counts = ", ".join(f"{count} in {as_path(old)}" for old, count in moved.items())
    copied = " (which still exists: this is a copy)" if any(as_path(old).exists() for old in moved) else ""
    fix = f"{with_store_argument(root, FIX)} makes them begin with this folder, after a backup"
    found = f"{counts}{copied}: MLflow's pages show no artifacts of this store"
    return CheckResult(check="artifacts", found=found, verdict="problem", fix=fix, repair=repair)


def open_runs(root: Path, runs: list[RunRecord]) -> CheckResult:
    """Check that every run with status RUNNING has a live process."""
    running = [run for run in runs if run.status == "RUNNING"]
    left = orphans(running)
    if not left:
        return CheckResult(check="open runs", found=f"{len(running)} running" if running else "none")

    def repair() -> str:
        from research.tracking.run_writer import RunLog
        from research.tracking.store import open_store

        store = open_store(root, must_exist=True)
        # Children first: a parent that has ended must not have open ones.
        for run in sorted(left, key=lambda run: schema.PARENT not in run.tags):
            outcome = run.outcome or "interrupted"
            RunLog(store, run.run_id).finish(outcome, tags={} if run.outcome else {schema.REASON: LEFT_OPEN})
        return f"closed {len(left)} runs; the same make sweep or make train continues where they stopped"

    names = some([f"{run.kind} {run.name}" for run in left])
    fix = f"the command that started them continues them; {with_store_argument(root, FIX)} only closes them"
    return CheckResult(
        check="open runs", found=f"{len(left)} without a process: {names}", verdict="warning", fix=fix, repair=repair
    )


def orphans(running: list[RunRecord]) -> list[RunRecord]:
    """Return open runs whose process or parent's process is gone; a run without a process counts after an hour."""
    by_id = {run.run_id: run for run in running}
    return [run for run in running if not _is_driven(run, by_id)]


def _is_driven(run: RunRecord, running: dict[str, RunRecord]) -> bool:
    from research.tracking.process_identity import DriverClaim, ProcessId

    if schema.WORKER in run.tags and ProcessId.read(run.tags[schema.WORKER]).is_alive:
        return True
    if schema.OWNER in run.tags:
        return not DriverClaim.read(run.tags[schema.OWNER]).is_gone
    parent = running.get(run.tags.get(schema.PARENT, ""))
    if parent is not None:
        return _is_driven(parent, running)
    return time.time() - run.started / 1000 < SHORT_RUN_SECONDS


def checkpoints(root: Path, runs: list[RunRecord]) -> CheckResult:
    """Check for checkpoints of ended trials, which are never read again."""
    files = sorted((root / "checkpoints").glob("*.safetensors"))
    # Only the last attempt counts: a crashed trial may have been resumed since and wait now.
    last = {run.tags.get(schema.TRIAL_FINGERPRINT): run.outcome for run in runs}
    open_ = {run.tags.get(schema.TRIAL_FINGERPRINT) for run in runs if run.status == "RUNNING"}
    left = [file for file in files if last.get(file.stem) not in (None, "interrupted") and file.stem not in open_]
    unknown = [file for file in files if file.stem not in last and not file.stem.startswith("final-")]
    size = byte_size(sum(file.stat().st_size for file in [*left, *unknown]))
    if not left and not unknown:
        return CheckResult(
            check="checkpoints", found=f"{len(files)}, of trials that wait to be resumed" if files else "none left over"
        )

    def repair() -> str:
        for file in left:
            file.unlink(missing_ok=True)
        return f"removed {len(left)} checkpoints of trials that have ended"

    names = f" ({some([file.name for file in unknown])})" if unknown else ""
    found = f"{len(left)} of trials that have ended, {len(unknown)} of trials that no run names{names}, {size}"
    fix = (
        f"{with_store_argument(root, FIX)} removes those of ended trials"
        if left
        else f"rm them in {root / 'checkpoints'}, unless runs on a server have them"
    )
    return CheckResult(check="checkpoints", found=found, verdict="warning", fix=fix, repair=repair if left else None)


def snapshots(root: Path) -> Iterator[CheckResult]:
    """Check that the bars of each snapshot still match its digest."""
    from research.data.snapshots import BARS_FILE, MANIFEST_FILE, digests_in, load_snapshot
    from research.errors import InputError

    digests = digests_in(root) if root.is_dir() else []
    if not digests:
        return
    cheap = sum(size.stat().st_size for digest in digests for size in (root / digest).glob(BARS_FILE)) <= CHEAP_BYTES
    wrong = []
    for digest in digests:
        try:
            if cheap:
                load_snapshot(digest, root)
            elif json.loads((root / digest / MANIFEST_FILE).read_text())["digest"] != digest:
                wrong.append(digest)
        except (InputError, OSError, ValueError, KeyError):
            wrong.append(digest)
    if wrong:
        fix = f"delete {some([str(root / digest) for digest in wrong])}; make data DATA=<its name> fetches it again"
        yield CheckResult(check="snapshots", found=f"digest differs: {some(wrong)}", verdict="problem", fix=fix)
    else:
        how = "content matches" if cheap else "manifests match (make data DATA=<digest> checks the content)"
        yield CheckResult(check="snapshots", found=f"{len(digests)}, {how}")


def freshness(root: Path, now: datetime | None = None) -> Iterator[CheckResult]:
    """Yield a check of the newest snapshot's age for every named data set."""
    from research.data.data_sets import data_set_names

    for name in data_set_names(root) if root.is_dir() else []:
        yield _age_of(name, root, now or datetime.now(UTC))


def _age_of(name: str, root: Path, now: datetime) -> CheckResult:
    import pandas as pd

    from research.data.calendars import calendar_named, sessions_missed
    from research.data.data_sets import read_data_set
    from research.data.snapshots import MANIFEST_FILE
    from research.errors import InputError

    check = f"data {name}"
    again = with_store_argument(root.parent, f"make data DATA={name}")
    try:
        data_set = read_data_set(name, root)
        assert data_set is not None
        manifest = json.loads((root / data_set.digest / MANIFEST_FILE).read_text())
    except (InputError, OSError, ValueError) as error:
        return CheckResult(check=check, found=f"cannot be read ({error})", verdict="problem", fix=f"{again} FULL=1")
    missed = {}
    for symbol, facts in manifest["symbols"].items():
        calendar = manifest["instruments"].get(symbol, {}).get("calendar", "")
        last = pd.Timestamp(facts["last"])
        missed[symbol] = sessions_missed(last, calendar_named(calendar) if calendar else None, now)
    oldest = max(missed, key=missed.__getitem__)
    found = f"to {manifest['symbols'][oldest]['last']} ({oldest}), {missed[oldest]:,} sessions missed"
    # A data set requested with an end date does not grow, so it is never stale.
    if missed[oldest] <= MOST_MISSED or data_set.request.end:
        return CheckResult(check=check, found=found)
    return CheckResult(check=check, found=found, verdict="warning", fix=again)


def locks(root: Path) -> CheckResult:
    """List the locks of sweeps and studies held on this machine; a lock file without a holder does not count."""
    from filelock import FileLock, Timeout

    holders = []
    for file in sorted((root / "locks").glob("*.lock")):
        try:
            with FileLock(file, timeout=0):
                pass
        except (Timeout, OSError):
            owner = file.with_suffix(".owner")
            holders.append(owner.read_text() if owner.exists() else "another process")
    return CheckResult(check="locks", found=f"held by {some(holders)}" if holders else "none is held")


def server(uri: str, timeout: float = 5.0) -> CheckResult:
    """Check that the tracking server of `MLFLOW_TRACKING_URI` responds and has the same MLflow version."""
    from importlib.metadata import version

    import requests

    check = "tracking server"
    # An address may contain a password, which must not be printed.
    shown = re.sub("(?<=//)[^/@]*@", "", uri)
    if not uri.startswith(("http://", "https://")):
        fix = "give http://<host>:<port>, or unset it for the local store"
        return CheckResult(check=check, found=f"MLFLOW_TRACKING_URI={shown}: not a server address", verdict="problem", fix=fix)
    try:
        answer = requests.get(f"{uri.rstrip('/')}/version", timeout=timeout)
        answer.raise_for_status()
    except requests.RequestException as error:
        fix = "start it, correct MLFLOW_TRACKING_URI, or unset it for the local store"
        return CheckResult(check=check, found=f"{shown} does not respond ({type(error).__name__})", verdict="problem", fix=fix)
    theirs, ours = answer.text.strip()[:20], version("mlflow")
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        fix = f"run MLflow {ours} there"
        return CheckResult(check=check, found=f"{shown} is MLflow {theirs}, here {ours}", verdict="warning", fix=fix)
    return CheckResult(check=check, found=f"{shown}: MLflow {theirs}")
