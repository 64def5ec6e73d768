"""The wheel is complete: outside the checkout it lists its verbs and runs a sweep."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.verbs import ROOT

PACKAGES = ("tapescale", "research", "pipelines", "analysis")


def tracked(*paths: str) -> list[str]:
    """Return the files of the working tree below some paths, new ones included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *paths]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, sources = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("sources")
    # A folder `build` of an earlier wheel would put its files into this one.
    for name in tracked(*PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, sources / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--disable-pip-version-check", "-w", str(folder), "."]
    subprocess.run(command, cwd=sources, check=True, timeout=300)
    (path,) = folder.glob("tapescale-*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    assert set(tracked(*PACKAGES)) <= held
    assert {"research/models/kernels/kernels.cpp", "analysis/report/style.css", "tapescale/py.typed"} <= held
    assert not [name for name in held if name.startswith(("tests/", "benchmarks/"))]


@pytest.mark.slow
def test_the_wheel_runs_a_sweep_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    environment = {**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "300"}

    def tapescale(*words: str) -> str:
        command = [sys.executable, "-m", "tapescale", *words]
        ran = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=600)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    code = "import research, pipelines, analysis, tapescale; print(research.__file__, tapescale.__file__)"
    origin = subprocess.run([sys.executable, "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert all(path.startswith(str(installed)) for path in origin.stdout.split())
    assert "sweep" in tapescale("--help")
    printed = tapescale("sweep", "BUDGET=2K", "TRIALS=2", "EPOCHS=1", "LAYERS=2,4", "WORKERS=1", "DEVICE=cpu")
    assert "registered sp500-threshold-1pct-2K-h1" in printed
    assert "next  tapescale leaderboard   tapescale scaling" in printed
    assert (elsewhere / "mlruns" / "mlflow.db").exists()
    assert "2K" in tapescale("leaderboard")
    # Its exit code depends on the machine; its table must not need a checkout.
    command = [sys.executable, "-m", "tapescale", "doctor"]
    doctor = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=600)
    assert "required packages are installed" in doctor.stdout
    assert not {"failed", "make"} & set(doctor.stdout.split()), doctor.stdout
