"""The notebook runs from its first cell on a store that is not the one it was written with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

NOTEBOOK = ROOT / "docs" / "depth-or-width.ipynb"
MOST_BYTES = 400_000


def test_the_notebook_is_small_whole_and_names_no_machine():
    content = NOTEBOOK.read_text()
    cells = [cell for cell in json.loads(content)["cells"] if cell["cell_type"] == "code"]
    assert len(content) < MOST_BYTES
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "run make notebook"
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] in ("error", "stream")]
    assert "/home/" not in content
    assert "/tmp/" not in content


@pytest.mark.slow
def test_the_notebook_runs_on_a_tiny_store(store_root: Path, tmp_path: Path):
    pytest.importorskip("nbclient")
    sweep = [
        sys.executable,
        "-m",
        "tapescale",
        "sweep",
        "--budget",
        "2K",
        "--trials",
        "3",
        "--epochs",
        "1",
        "--device",
        "cpu",
    ]
    subprocess.run([*sweep, "--workers", "1", "--threads", "1", "--store", str(store_root)], check=True, cwd=ROOT)
    done = tmp_path / "done.ipynb"
    subprocess.run(
        [sys.executable, "docs/run_notebook.py", str(NOTEBOOK), str(done)],
        check=True,
        cwd=ROOT,
        env={**os.environ, "TAPESCALE_STORE": str(store_root)},
    )
    assert '"output_type": "error"' not in done.read_text()
