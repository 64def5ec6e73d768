"""A verb loads what it uses: no answer waits for a package that has no part in it."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.results.frontier import SETTING
from benchmarks.start_up import cpu_seconds
from research.tracking import schema
from research.tracking.run_writer import RunLog
from research.tracking.store import Store, open_store
from tests.support.verbs import commands_to_type

ROOT = Path(__file__).parents[1]
STARTS_A_VERB = "from research.cli.run import run"
VERBS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for room in ("research", "pipelines", "analysis")
    for path in (ROOT / room).rglob("*.py")
    if STARTS_A_VERB in path.read_text()
)
HEAVY = {"torch", "mlflow", "optuna", "lightgbm", "sklearn", "arch", "matplotlib", "scipy"}
NUMBERS = {"numpy", "pandas"}
RUN = """
import runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    print("loaded", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def run(module: str, *arguments: str, code: int = 0) -> tuple[str, set[str]]:
    """What a verb prints in a process of its own, and the packages that it loads for that."""
    command = [sys.executable, "-c", RUN, module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    told, _, loaded = done.stderr.rpartition("loaded ")
    return done.stdout + told, set(loaded.split())


@pytest.fixture
def store(store_root: Path) -> Store:
    """Two budgets and one baseline on the same days, one trial linked to another's predictions."""
    store = open_store(store_root)
    experiment = store.experiment("sp500-threshold-1pct")
    first = finished(store, experiment, "0000 d4 L2 h1 ff2", loss=0.40, size=2_000)
    finished(store, experiment, "0000 d8 L2 h1 ff2", loss=0.40, size=6_000, linked=first)
    finished(store, experiment, "prior", loss=0.45, size=0, kind="baseline")
    return store


def finished(
    store: Store,
    experiment: str,
    name: str,
    *,
    loss: float,
    size: int,
    kind: schema.RunKind = "trial",
    linked: str | None = None,
) -> str:
    """A run with what the leaderboard reads, and its predictions unless they are another run's."""
    setting = {name: "the same" for name in (*SETTING, "feature_set", "symbol") if name != "context_length"}
    params = {"context_length": 60, "horizon": 1, "budget": f"{size // 1000}K", "n_train_windows": 3012, "baseline": name}
    tags = {schema.STUDY_FINGERPRINT: "0123456789abcdef", schema.TRIAL_FINGERPRINT: f"{name} {size}", schema.ALARM: "none"}
    log = RunLog.start(
        store,
        experiment_id=experiment,
        kind=kind,
        name=name,
        params={**setting, **params},
        tags={**tags, **({schema.LINKED: linked} if linked else {})},
    )
    if linked is None:
        log.artifacts(lambda folder: predictions(loss).to_parquet(folder / schema.PREDICTIONS_FILE))
    metrics = {"val_loss": loss, "n_params": size, "val_skill": 0.1, "val_auc": 0.7, "val_auc_se": 0.02}
    log.finish("complete", metrics={**metrics, "val_base_rate_loss": 0.45, "n_effective_windows": 900.0})
    return log.run_id


def predictions(loss: float, days: int = 240) -> pd.DataFrame:
    dates = pd.bdate_range(date(2012, 1, 3), periods=days)
    return pd.DataFrame({"date": dates, "loss": loss + np.sin(np.arange(days)) / 100})


def test_every_verb_is_found() -> None:
    made = set(re.findall(r"-m ((?:pipelines|analysis|research)(?:\.\w+)+)", (ROOT / "Makefile").read_text()))
    assert made <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_loads_nothing_heavy(verb: str) -> None:
    told, loaded = run(verb, "--help")
    assert told.startswith(f"usage: python -m {verb} ")
    assert "\nexamples:\n  " in told
    # The catalogue imports the features that it lists, whatever it is asked.
    heavy = HEAVY if verb == "research.features.catalogue_table" else HEAVY | NUMBERS
    assert loaded & heavy == set()


def test_make_alone_starts_no_python() -> None:
    shown = subprocess.run(["make", "-n"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "make sweep" in shown
    assert ".venv/bin/python" not in shown


def test_the_leaderboard_of_a_local_store_needs_no_client(store: Store) -> None:
    told, loaded = run("analysis.leaderboard", "--store", str(store.root), "--adopted")
    assert "6K: 0.0500 nats better than the strongest baseline, prior" in told
    assert "make sweep BUDGET=<another size>" in commands_to_type(told, store.root)
    assert loaded & HEAVY == set()


def test_scaling_of_a_local_store_adds_only_what_draws_and_judges(store: Store) -> None:
    told, loaded = run("analysis.scaling", "--store", str(store.root))
    assert "2K -> 6K (x3.0): +0.0000 nats" in told
    assert "make report" in commands_to_type(told, store.root)
    assert loaded & HEAVY == {"matplotlib", "scipy"}


def test_status_of_a_local_store_needs_no_tables(store: Store) -> None:
    told, loaded = run("analysis.status", "--store", str(store.root))
    assert "no sweep is running" in told
    assert loaded & (HEAVY | NUMBERS) == set()


@pytest.mark.parametrize("verb", [f"analysis.{name}" for name in ("leaderboard", "scaling", "status", "compare")])
def test_a_store_that_is_not_there_is_named_at_once(verb: str, tmp_path: Path) -> None:
    told, loaded = run(verb, "--store", str(tmp_path / "none"), code=2)
    assert told.startswith("error: STORE=none: there are no runs yet")
    assert loaded & {"torch", "mlflow"} == set()


def test_tables_that_cannot_be_read_are_named_without_a_client(store: Store) -> None:
    with closing(sqlite3.connect(store.database)) as connection:
        connection.execute("ALTER TABLE latest_metrics RENAME TO lost")
    told, loaded = run("analysis.leaderboard", "--store", str(store.root), code=2)
    assert "MLflow's tables cannot be read" in told
    assert loaded & {"torch", "mlflow"} == set()


def test_the_bench_counts_work_and_not_waiting() -> None:
    waiting = cpu_seconds("-c", "import time; time.sleep(0.5)")
    assert waiting < cpu_seconds("-c", "import time\nwhile time.process_time() < 0.5: pass")


def test_the_bench_does_not_count_a_verb_that_fails() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        cpu_seconds("-m", "analysis.leaderboard", "--no-such-flag")
