"""Every mistake of a user's ends in one sentence that names the field, the value and the fix."""

from __future__ import annotations

import subprocess
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.options import SweepOptions
from pipelines.sweep.setup import prepare
from research.cli import run as cli
from research.errors import InputError
from research.tracking.store import open_store
from tests.support.verbs import command as command_line
from tests.support.verbs import main_of, options_of

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
    "HORIZON=-1": {"horizon": -1},
    "THRESHOLD=nan": {"threshold": float("nan")},
    "CONTEXT=0": {"context": 0},
    "SEED=-1": {"seed": -1},
    "SEED=4294967296": {"seed": 2**32},
    "TRIALS=+0": {"add_trials": 0},
    "PATIENCE=0": {"patience": 0},
    "WORKERS=0": {"workers": 0},
    "REPLICATES=-1": {"replicates": -1},
    "random_share=2": {"random_share": 2.0},
    "WIDTH_TRANSFER=-1": {"base_width": -1},
    "LAYERS=0": {"layers": (0,)},
    "learning_rate=1 0.1": {"learning_rate": (1.0, 0.1)},
    "dropout=1.5": {"dropout": (0.0, 1.5)},
    "batch_sizes=": {"batch_sizes": ()},
    "SYMBOLS=NOPE": {"symbols": ("NOPE",)},
    "VALIDATE_ON=NOPE": {"validate_on": ("NOPE",)},
    "INDEX=NOPE": {"features": "s50", "index": "NOPE"},
    "WINDOWS=x": {"windows": "x"},
    "EMBARGO=-1": {"embargo": -1},
    "DATA=missing.csv": {"data": "missing.csv"},
    "DATA=synthetic:bars=x": {"data": "synthetic:bars=x"},
    "CHECKPOINTS=/dev/null": {"checkpoints": Path("/dev/null")},
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


VERBS = {
    "study --budgets x": "BUDGETS=x",
    "study --budgets 2M..2K": "BUDGETS=2M..2K",
    "study --horizons 0": "HORIZONS=0",
    "study --budget 2K": "BUDGET=2K: a study takes a list",
    "sweep --horizon x": "HORIZON=x: give a whole number",
    "data --data nowhere": "DATA=nowhere",
    "train": "BUDGET=: give",
    "train --budget 2K": "BUDGET=2K: no complete run at horizon 1; make sweep first",
    "evaluate --budget 2K": "BUDGET=2K: no complete run at horizon 1; make train first",
    "predict": "MODEL=: no model is registered yet; `make sweep`",
    "serve --port 5997": "MODEL=: no model is registered yet; `make sweep`",
    "serve --port 70000": "PORT=70000",
    "train --budget x": "BUDGET=x",
    "train --budget 2K --run a": "BUDGET=2K: give BUDGET with HORIZON, or RUN alone",
    "train --run zzz --seeds 0": "SEEDS=0",
    "train --run zzz": "RUN=zzz",
    "evaluate --run zzz": "RUN=zzz",
    "predict --days 0": "DAYS=0",
    "predict --max-age -1": "MAX_AGE=-1",
    "ui --port 0": "PORT=0",
    "adopt": "PATHS=: give",
    "adopt no/such": "PATHS=no/such",
    "data --data bundled --start 2020-01-01": "START=2020-01-01",
    "data --symbols SPY --name ../x": "NAME=../x",
    "baselines --years x": "YEARS=x",
    "baselines --horizons": "HORIZONS=: give",
    "control --trials 0": "TRIALS=0",
    "control --bars 5": "FEATURES=a25s: 5 days",
    "compare a": "MODELS=a",
    "status --watch nan": "WATCH=nan",
    "leaderboard --experiment nope": "STORE=mlruns: no finished trial in experiment nope",
    "leaderboard": "STORE=mlruns: no finished trial yet; start with `make sweep`",
    "effects": "STORE=mlruns: no finished trial",
    "compare": "STORE=mlruns: no finished trial",
    "scaling": "STORE=mlruns: no finished trial",
    "forecast": "STORE=mlruns: no finished trial",
    "report": "STORE=mlruns: no finished trial",
    "scaling --csv no/such --n n --loss loss": "CSV=no/such",
    "scaling --csv x": "N=: name the column",
}


def mistake_of(command: str, *more: str) -> str:
    """The sentence that a verb ends with, run in this process."""
    verb, *words = [*command.split(), *more]
    with pytest.raises(InputError) as mistake:
        main_of(verb)(cli.parsed(options_of(verb), words, verb))
    sentence = str(mistake.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("command", VERBS)
def test_every_verb_says_what_to_type_instead(command: str, store_root: Path) -> None:
    assert mistake_of(command, "--store", str(store_root)).startswith(VERBS[command])


@pytest.mark.parametrize("verb", ["scaling", "compare", "effects", "leaderboard", "forecast", "report", "status"])
def test_a_store_that_is_not_there_is_not_made(verb: str, tmp_path: Path) -> None:
    assert mistake_of(verb, "--store", str(tmp_path / "none")).endswith("start with `make sweep`.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["data", "predict", "leaderboard"])
def test_a_store_that_cannot_be_one_is_told(verb: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "this is a file; give a folder" in mistake_of(verb, "--store", str(tmp_path / "file"))
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    assert "is no MLflow database" in mistake_of(verb, "--store", str(tmp_path))


def test_a_store_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "give a folder that can be written to" in mistake_of("data", "--store", str(tmp_path / "file" / "x"))


@pytest.mark.parametrize("uri", ["banana", "ftp://me:secret@x", "http://127.0.0.1:x", "sqlite:///other.db", "http://"])
def test_an_address_of_no_server_is_told_without_its_password(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    sentence = mistake_of("status")
    assert sentence.startswith("MLFLOW_TRACKING_URI=")
    assert "secret" not in sentence


def test_a_corrupted_snapshot_is_refused(store_root: Path) -> None:
    prepare(SweepOptions(store=store_root, device="cpu"), Console(quiet=True))
    (folder,) = (store_root / "snapshots").iterdir()
    table = folder / "bars.parquet"
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 0xFF
    table.write_bytes(content)
    with pytest.raises(InputError, match=rf"DATA={folder.name}: the snapshot .*make data"):
        prepare(SweepOptions(store=store_root), Console(quiet=True))


def test_thin_evidence_is_allowed_only_aloud_and_tagged(store_root: Path) -> None:
    options = SweepOptions(store=store_root, threshold=0.05, device="cpu", allow_thin_evidence=True)
    setup = prepare(options, Console(quiet=True))
    assert "with the rarer class" in setup.tags["thin_evidence"]


@pytest.mark.parametrize(
    ("verb", "flags", "words"),
    [
        ("sweep", ["--budget", "banana"], "BUDGET=banana"),
        ("plan", ["--budget", "banana"], "BUDGET=banana"),
        ("leaderboard", ["--store", "no/such/store"], "make sweep"),
        ("ui", ["--store", "no/such/store"], "make sweep"),
    ],
)
def test_the_command_line_ends_with_one_line_and_a_nonzero_exit(
    verb: str, flags: list[str], words: str, store_root: Path
) -> None:
    flags = flags if "--store" in flags else [*flags, "--store", str(store_root)]
    ran = subprocess.run(command_line(verb, *flags), capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert words in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
    assert not Path("no").exists()
