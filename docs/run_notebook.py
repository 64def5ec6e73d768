"""Run a notebook of this folder from its first cell and keep what it printed and drew.

    python docs/run_notebook.py docs/depth-or-width.ipynb [OUTPUT]

`TAPESCALE_STORE` names another store than `mlruns`. Nothing is written if a cell fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
VOLATILE = ("execution", "widgets")
"""Metadata that differ at every run and tell a reader nothing."""


def run(source: Path, target: Path) -> None:
    """Execute in the checkout's root and write; an error of a cell is raised with its traceback."""
    notebook = nbformat.read(source, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}}).execute()
    for cell in notebook.cells:
        for name in VOLATILE:
            cell.metadata.pop(name, None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    nbformat.write(notebook, target)


if __name__ == "__main__":
    notebook_file = Path(sys.argv[1])
    run(notebook_file, Path(sys.argv[2]) if len(sys.argv) > 2 else notebook_file)
