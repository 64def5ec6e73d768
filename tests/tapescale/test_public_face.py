"""What a notebook imports, and the page of commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tapescale
from research.errors import InputError
from tapescale.cli import GROUPS, VERBS, main
from tapescale.commands_page import page
from tests.support.verbs import ROOT


def test_the_import_loads_nothing_heavy() -> None:
    code = "import sys, tapescale; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "pandas", "torch", "mlflow", "optuna", "rich", "tyro"} & set(loaded)


def test_a_sweep_is_a_table_of_its_trials_and_its_model_answers(store_root: Path) -> None:
    options = {"budget": "2K", "trials": 2, "epochs": 1, "device": "cpu", "workers": 1, "layers": (2, 4)}
    table = tapescale.sweep(store=store_root, quiet=True, **options)
    assert list(table["run_kind"]).count("trial") == 2
    assert table["val_loss"].is_monotonic_increasing
    assert set(table["outcome"]) == {"complete"}
    everything = tapescale.trials(store_root)
    assert set(table["run_id"]) == set(everything["run_id"])

    from research.data.bundled import bundled

    bars = bundled().bars["^GSPC"].drop(columns="adj_close").tail(400).reset_index()
    bars["date"] = bars["date"].astype(str)
    newest = tapescale.load_model("sp500-threshold-1pct-2K-h1", store=store_root).predict(bars)
    numbered = tapescale.load_model("sp500-threshold-1pct-2K-h1", 1, store=store_root).predict(bars)
    assert newest.equals(numbered)
    with pytest.raises(InputError, match="VERSION=7"):
        tapescale.load_model("sp500-threshold-1pct-2K-h1", 7, store=store_root)


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="STORE=none"):
        tapescale.trials(tmp_path / "none")


def test_the_page_of_commands_is_generated() -> None:
    fix = "run: .venv/bin/python -m tapescale.commands_page > docs/commands.md"
    assert (ROOT / "docs" / "commands.md").read_text() == page(), fix


def test_the_list_has_every_verb_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    listed = capsys.readouterr().out
    assert all(f"\n  {name} " in listed for name in VERBS)
    assert all(f"\n{group}\n" in listed for group in GROUPS)
    assert max(map(len, listed.splitlines())) <= 110


def test_a_verb_that_does_not_exist_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["swep"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: swep: no such verb; did you mean sweep?\n"
