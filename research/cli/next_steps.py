"""Commands to type next, on the store that the verb worked on."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
"""Folder of the checkout; `make` runs there. An installed wheel has no Makefile in it."""
USUAL = ROOT / "mlruns"
"""Store of `make` commands without STORE=."""
FIX = "make doctor FIX=1"


def as_installed(text: str) -> str:
    """Return a text with its `make VERB` commands as `tapescale VERB` if there is no checkout to run make in."""
    if (ROOT / "Makefile").exists():
        return text
    return re.sub(r"\bmake (?=[a-z]+\b)(?!sure|it|them)", "tapescale ", text)


def with_store_argument(store: Path, command: str) -> str:
    """Return a `make` command with the STORE= that it needs to act on a store; unchanged for the usual store."""
    if store.resolve() == (USUAL if (ROOT / "Makefile").exists() else Path("mlruns")).resolve():
        return command
    return f"{command} STORE={shlex.quote(str(_typed(store)))}"


def print_next(screen: Console, store: Path, *steps: str) -> None:
    """Print the last line of a verb: `make` commands, each on the verb's own store, and other text unchanged."""
    commands = (with_store_argument(store, step) if step.startswith("make ") else step for step in steps)
    # A path may hold brackets, which are no markup, and must not be broken by a narrow screen.
    screen.print(as_installed(f"next  {'   '.join(commands)}"), soft_wrap=True, highlight=False, markup=False)


def _typed(store: Path) -> Path:
    """Return the path as it can be typed in the checkout."""
    if Path.cwd() != ROOT:
        store = store.resolve()
    return store.relative_to(ROOT) if store.is_relative_to(ROOT) else store
