"""Every mistake of a user's ends in one sentence that names the field, the value and the fix."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.options import SweepOptions
from pipelines.preparation import prepare
from research.spec import InputError
from research.tracking.store import open_store

MISTAKES = {
    "BUDGET=banana": {"budget": "banana"},
    "BUDGET=3: no architecture": {"budget": "3"},
    "HORIZON=0": {"horizon": 0},
    "HORIZON=9999": {"horizon": 9999},
    "THRESHOLD=0": {"threshold": 0.0},
    "CONTEXT=4000": {"context": 4000},
    "CONTEXT=5": {"context": 5},
    "TRIALS=0": {"trials": 0},
    "EPOCHS=0": {"epochs": 0},
    "DEVICE=cuda": {"device": "cuda"},
    "threads=0": {"threads": 0},
    "micro_batch=0": {"micro_batch": 0},
    "FEATURES=a26": {"features": "a26"},
    "DATA=nowhere": {"data": "nowhere"},
    "DATA=0123456789abcdef": {"data": "0123456789abcdef"},
    "SYMBOL=AAPL": {"symbol": "AAPL"},
    "SPLIT=": {"validation_end": date(2005, 1, 1)},
    "too little evidence": {"threshold": 0.05},
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_no_run(sentence: str, store_root: Path) -> None:
    if sentence == "DEVICE=cuda" and __import__("torch").cuda.is_available():
        pytest.skip("this machine has CUDA")
    options = SweepOptions(store=store_root, **MISTAKES[sentence])  # type: ignore[arg-type]
    with pytest.raises(InputError) as mistake:
        prepare(options, Console(quiet=True))
    assert str(mistake.value).startswith(sentence)
    assert "\n" not in str(mistake.value)
    store = open_store(store_root)
    experiments = [one.experiment_id for one in store.client.search_experiments()]
    assert not store.client.search_runs(experiments, "tags.run_kind = 'sweep'")


def test_a_corrupted_snapshot_is_refused(store_root: Path) -> None:
    prepare(SweepOptions(store=store_root, device="cpu"), Console(quiet=True))
    (folder,) = (store_root / "snapshots").iterdir()
    table = folder / "bars.parquet"
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 0xFF
    table.write_bytes(content)
    with pytest.raises(InputError, match=rf"snapshot {folder.name} .*make data"):
        prepare(SweepOptions(store=store_root), Console(quiet=True))


def test_thin_evidence_is_allowed_only_aloud_and_tagged(store_root: Path) -> None:
    options = SweepOptions(store=store_root, threshold=0.05, device="cpu", allow_thin_evidence=True)
    context, _ = prepare(options, Console(quiet=True))
    assert "with the rarer class" in context.tags["thin_evidence"]


@pytest.mark.parametrize(
    ("module", "flags", "words"),
    [
        ("pipelines.sweep", ["--budget", "banana"], "BUDGET=banana"),
        ("pipelines.sweep", ["--trials", "0"], "TRIALS=0"),
        ("pipelines.plan", ["--budget", "banana"], "BUDGET=banana"),
        ("pipelines.ingest", ["--data", "nowhere"], "DATA=nowhere"),
        ("analysis.leaderboard", ["--store", "no/such/store"], "make sweep"),
        ("analysis.scaling", ["--store", "no/such/store"], "make sweep"),
        ("analysis.compare", ["--store", "no/such/store"], "make sweep"),
        ("analysis.architecture_effects", ["--store", "no/such/store"], "make sweep"),
        ("pipelines.ui", ["--store", "no/such/store"], "make sweep"),
        ("pipelines.train", [], "BUDGET="),
        ("pipelines.train", ["--budget", "2K"], "make sweep first"),
        ("pipelines.evaluate", ["--budget", "2K"], "make train first"),
        ("pipelines.predict", [], "MODEL=: no model is registered yet; `make sweep`"),
        ("pipelines.serve", [], "MODEL=: no model is registered yet; `make sweep`"),
        ("pipelines.serve", ["--port", "70000"], "PORT=70000"),
    ],
)
def test_the_command_line_ends_with_one_line_and_a_nonzero_exit(
    module: str, flags: list[str], words: str, store_root: Path
) -> None:
    flags = flags if "--store" in flags else [*flags, "--store", str(store_root)]
    ran = subprocess.run([sys.executable, "-m", module, *flags], capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert words in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
    assert not Path("no").exists()


@pytest.mark.parametrize(
    "module",
    [
        "pipelines.sweep",
        "pipelines.plan",
        "pipelines.ladder",
        "pipelines.adopt",
        "analysis.status",
        "pipelines.ingest",
        "pipelines.train",
        "pipelines.evaluate",
        "pipelines.ui",
        "pipelines.predict",
        "pipelines.serve",
        "analysis.leaderboard",
        "analysis.scaling",
        "analysis.compare",
        "analysis.architecture_effects",
    ],
)
def test_help_shows_an_example_and_loads_no_heavy_library(module: str) -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['x', '--help']\n"
        "try:\n"
        f"    runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        "print('LOADED', [name for name in ('torch', 'mlflow', 'optuna', 'pandas') if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "examples:" in ran.stdout
    assert "LOADED []" in ran.stdout
