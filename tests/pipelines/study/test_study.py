"""A study runs every budget at every horizon; it is checked as a whole and resumed as a whole."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from pipelines.options import SweepOptions
from pipelines.study import driver, study
from pipelines.study.budget_list import StudySweep, parse_budgets, study_sweeps
from pipelines.study.state import Status, StudyProgress, SweepProgress, SweepStatus, read_state, study_fingerprint, targets_of
from pipelines.study.study import StudyOptions
from pipelines.study.table import clock, progress_table
from pipelines.sweep import setup
from pipelines.sweep.driver_lock import only_driver
from research.errors import InputError
from research.models.budget import Budget
from research.tracking import query, schema
from research.tracking.retry import StoreUnavailable
from research.tracking.store import Store, open_store
from tests.support.verbs import commands_to_type

EXPERIMENT = "sp500-threshold-1pct"
TITLES = ["2K-h1", "2K-h3", "3K-h1", "3K-h3"]


def options(root: Path, **changes: Any) -> StudyOptions:
    tiny = {
        "budgets": "2K,3K",
        "horizons": (3, 1),
        "trials": 1,
        "epochs": 1,
        "workers": 1,
        "threads": 1,
        "device": "cpu",
        "store": root,
    }
    return StudyOptions(**{**tiny, **changes})


def run(root: Path, console: Console | None = None, **changes: Any) -> StudyProgress:
    asked = options(root, **changes)
    planned = study_sweeps(parse_budgets(asked.budgets), asked.horizons)
    return driver.run_study(asked, planned, console or Console(quiet=True))


def sweeps(store: Store) -> list[Any]:
    found = store.client.get_experiment_by_name(EXPERIMENT)
    return list(store.client.search_runs([found.experiment_id], "tags.run_kind = 'sweep'", order_by=["start_time ASC"]))


def trials_of(store: Store) -> dict[str, int]:
    counted = {}
    for parent in sweeps(store):
        runs = query.children(store, parent.info.experiment_id, parent.info.run_id)
        counted[parent.info.run_name] = sum(one.kind == "trial" and one.outcome == "complete" for one in runs)
    return counted


@pytest.fixture(scope="module")
def root(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "mlruns"
    shutil.copytree(migrated_store, folder)
    return folder


@pytest.fixture(scope="module")
def finished(root: Path) -> tuple[StudyProgress, str]:
    """Run a whole study; return its progress and its output."""
    screen = Console(file=io.StringIO(), width=110, record=True)
    return run(root, screen), screen.export_text()


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function that replaces `run_sweep` and returns the list of started sweeps."""

    def put(stand_in: Callable[..., Any]) -> list[str]:
        titles: list[str] = []

        def noted(asked: SweepOptions, console: Console, **more: Any) -> Any:
            titles.append(f"{asked.budget}-h{asked.horizon}")
            return stand_in(len(titles), asked, console, **more)

        monkeypatch.setattr(driver, "run_sweep", noted)
        return titles

    return put


def test_every_sweep_completes_with_equal_trials_cheapest_first(finished: tuple[StudyProgress, str], root: Path) -> None:
    overview, _ = finished
    store = open_store(root)
    assert [parent.info.run_name for parent in sweeps(store)] == TITLES
    assert {parent.data.tags[schema.OUTCOME] for parent in sweeps(store)} == {"complete"}
    assert trials_of(store) == dict.fromkeys(TITLES, 1)
    assert [(cell.sweep.title, cell.status, cell.target) for cell in overview.sweeps] == [
        (title, "done", 1) for title in TITLES
    ]
    best = {parent.info.run_name: _best_loss(store, parent) for parent in sweeps(store)}
    assert {cell.sweep.title: cell.state.best_loss for cell in overview.sweeps} == best
    assert (overview.done, overview.failed, overview.left) == (4, [], 0)


def _best_loss(store: Store, parent: Any) -> float:
    return float(store.client.get_run(parent.data.tags[schema.BEST_RUN]).data.metrics["val_loss"])


def test_the_overall_view_is_not_drowned_by_its_sweeps(finished: tuple[StudyProgress, str], root: Path) -> None:
    _, output = finished
    assert output.count("snapshot ") == 1
    assert output.count("registered") == output.count("question") == 0
    assert "0 of 4 sweeps done" in output
    assert "time left unknown until a trial has ended" in output
    assert "sweep 3 of 4: 3K-h1" in output
    assert output.index("2 of 4 sweeps done") < output.index("sweep 3 of 4") < output.index("4 of 4 sweeps done")
    assert commands_to_type(output, root) == ["make leaderboard", "make scaling"]


def test_a_completed_study_is_reported_without_touching_a_run(
    finished: tuple[StudyProgress, str], root: Path, called: Callable[..., list[str]]
) -> None:
    store = open_store(root)
    before = [run.to_dictionary() for run in sweeps(store)], len(query.trials(store))
    titles = called(lambda *_, **__: pytest.fail("a sweep was started"))
    again = run(root)
    assert again.done == 4
    assert titles == []
    assert ([run.to_dictionary() for run in sweeps(store)], len(query.trials(store))) == before


def test_a_supplement_that_was_stopped_is_finished_and_never_added_to_twice(
    finished: tuple[StudyProgress, str], root: Path, called: Callable[..., list[str]]
) -> None:
    real = driver.run_sweep

    def stopped_in_the_third(place: int, *asked: Any, **more: Any) -> Any:
        if place == 3:
            raise KeyboardInterrupt
        return real(*asked, **more)

    store = open_store(root)
    titles = called(stopped_in_the_third)
    screen = Console(file=io.StringIO(), width=110, record=True)
    with pytest.raises(KeyboardInterrupt):
        run(root, screen, add_trials=1)
    assert "stopped in 3K-h1; the same command continues there" in screen.export_text()
    assert trials_of(store) == dict(zip(TITLES, (2, 2, 1, 1)))

    titles = called(lambda _, *asked, **more: real(*asked, **more))
    overview = run(root, screen, add_trials=5)
    assert titles == ["3K-h1", "3K-h3"]
    assert trials_of(store) == dict.fromkeys(TITLES, 2)
    assert overview.done == 4
    assert "none are added this time" in screen.export_text()

    titles = called(lambda *_, **__: SimpleNamespace(best=None))
    assert {cell.target for cell in run(root, add_trials=1).sweeps} == {3}


def test_a_sweep_with_missing_replicates_is_not_done(finished: tuple[StudyProgress, str], root: Path) -> None:
    store = open_store(root)
    parent = sweeps(store)[0]
    where = store, parent.info.experiment_id, parent.data.tags[schema.SWEEP_FINGERPRINT]
    state = read_state(*where, options(root))
    asked = read_state(*where, options(root, replicates=2, replicate_best=1))
    assert state.is_done(state.settled)
    assert asked.replicates_left == 2
    assert not asked.is_done(asked.settled)


@pytest.mark.parametrize(
    ("sentence", "changes"),
    [
        ("HORIZON=9999", {"horizons": (1, 9999)}),
        ("BUDGET=3: no architecture", {"budgets": "2K,3"}),
        ("too little evidence at horizon 60", {"horizons": (1, 60)}),
        ("TRIALS=+0", {"add_trials": 0}),
        ("warmup=40", {"warmup": (40, 50)}),
    ],
)
def test_invalid_options_fail_before_the_first_sweep_starts(
    sentence: str, changes: dict[str, Any], store_root: Path, called: Callable[..., list[str]]
) -> None:
    titles = called(lambda *_, **__: None)
    with pytest.raises(InputError) as mistake:
        run(store_root, **changes)
    assert str(mistake.value).startswith(sentence)
    assert titles == []


def test_a_budget_that_does_not_fit_this_machine_is_refused_first(
    store_root: Path, called: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is free here lies between the needs of the two budgets.
    monkeypatch.setattr(setup, "available_memory", lambda _: 400 * 2**20)
    titles = called(lambda *_, **__: None)
    with pytest.raises(InputError, match=r"^BUDGET=200M: its smallest architecture needs"):
        run(store_root, budgets="2K,200M", horizons=(1,))
    assert titles == []


def test_a_failed_sweep_does_not_stop_the_others_and_is_reported_at_the_end(
    store_root: Path, called: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(place: int, *_: Any, **__: Any) -> Any:
        if place == 1:
            raise InputError("DEVICE=cuda: [gone].")
        return SimpleNamespace(best=None if place == 2 else "a trial")

    titles = called(fails)
    with pytest.raises(SystemExit) as ended:
        study.main(options(store_root))
    assert ended.value.code not in (None, 0)
    assert titles == TITLES
    output = capsys.readouterr().out
    assert "failed  2K-h1: DEVICE=cuda: [gone]." in output
    assert f"failed  2K-h3: {driver.NOTHING_COMPLETED}" in output
    assert "failed  3K" not in output


def test_a_store_that_stays_away_stops_the_study(store_root: Path, called: Callable[..., list[str]]) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("no answer")

    titles = called(away)
    with pytest.raises(StoreUnavailable):
        run(store_root, horizons=(1,))
    assert titles == ["2K-h1"]


def test_the_same_study_is_not_run_twice_at_once(store_root: Path) -> None:
    asked = options(store_root, budgets="2K", horizons=(1,))
    context, steps = driver.check(asked, study_sweeps(parse_budgets("2K"), (1,)))
    held = only_driver(context.store, study_fingerprint([step.fingerprint for step in steps]))
    with held, pytest.raises(InputError, match="this study is running already"):
        run(store_root, budgets="2K", horizons=(1,))


def done(settled: int, planned: int | None = None) -> SweepStatus:
    return SweepStatus(outcome="complete", settled=settled, planned=settled if planned is None else planned)


@pytest.mark.parametrize(
    ("asked", "states", "remembered", "targets"),
    [
        ({"trials": 12}, [SweepStatus(), done(5), done(20)], [], [12, 12, 20]),
        ({"add_trials": 10}, [SweepStatus(), done(12), done(20)], [], [10, 22, 30]),
        ({"add_trials": 10}, [done(12), done(12)], [12, 12], [22, 22]),
        ({"add_trials": 10}, [done(22), done(12)], [22, 22], [22, 22]),
        ({"add_trials": 10}, [done(22), SweepStatus(outcome="interrupted", settled=22)], [22, 22], [22, 22]),
        ({"add_trials": 10}, [done(22), SweepStatus(outcome="crashed", settled=22)], [22, 22], [32, 32]),
        ({"add_trials": 10}, [done(12), SweepStatus(outcome="interrupted", settled=5, planned=12)], [], [22, 22]),
    ],
)
def test_targets_of_a_start(
    asked: dict[str, int], states: list[SweepStatus], remembered: list[int], targets: list[int]
) -> None:
    titles = ["a", "b", "c"]
    found = targets_of(SweepOptions(**asked), dict(zip(titles, states)), dict(zip(titles, remembered)))  # type: ignore[arg-type]
    assert list(found.values()) == targets


def test_the_table_has_budgets_down_and_horizons_across() -> None:
    def cell(count: int, horizon: int, status: Status, state: SweepStatus) -> SweepProgress:
        return SweepProgress(
            sweep=StudySweep(budget=Budget(n_parameters=count), horizon=horizon), state=state, target=12, status=status
        )

    cells = [
        cell(2_000, 1, "done", SweepStatus(outcome="complete", settled=12, best_loss=0.37791)),
        cell(2_000, 3, "running", SweepStatus(settled=3)),
        cell(6_000, 1, "failed", SweepStatus()),
        cell(6_000, 3, "waiting", SweepStatus()),
    ]
    overview = StudyProgress(sweeps=cells, elapsed=90, left=7_200)
    screen = Console(file=io.StringIO(), width=80, record=True)
    screen.print(progress_table(overview))
    lines = [line.split() for line in screen.export_text().splitlines() if line.strip()]
    assert lines[0] == ["budget", "horizon", "1", "horizon", "3"]
    assert lines[2:] == [["2K", "done", "12/12", "0.3779", "running", "3/12"], ["6K", "failed", "0/12", "waiting", "0/12"]]
    assert clock(overview) == "1 of 4 sweeps done, 1.5 min elapsed, about 2.0 h left"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--budgets", "2K..3K"], "BUDGETS=2K..3K: 3K is not a step"),
        (["--budget", "2K"], "give BUDGETS=2K."),
        (["--horizon", "3"], "give HORIZONS=3."),
    ],
)
def test_the_command_line_ends_with_one_line_and_a_nonzero_exit(flags: list[str], words: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tapescale", "study", *flags, "--store", str(tmp_path / "none")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert words in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "none").exists()
