"""Commands to type next, on the store that the verb worked on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
"""The checkout, in which `make` is run."""
USUAL = ROOT / "mlruns"
"""The store that `make` takes where none is named."""
FIX = "make doctor FIX=1"


def with_store_argument(store: Path, command: str) -> str:
    """A `make` command with the STORE= that it needs to act on that store; as it is for the usual one."""
    if store.resolve() == USUAL.resolve():
        return command
    # Make would take a dollar for the beginning of a variable.
    return f"{command} STORE={shlex.quote(str(_typed(store)).replace('$', '$$'))}"


def print_next(screen: Console, store: Path, *steps: str) -> None:
    """The line that ends what a verb prints: commands of `make`, each on the verb's own store, and other words as they are."""
    told = (with_store_argument(store, step) if step.startswith("make ") else step for step in steps)
    # A path may hold brackets, which are no markup, and must not be broken by a narrow screen.
    screen.print(f"next  {'   '.join(told)}", soft_wrap=True, highlight=False, markup=False)


def _typed(store: Path) -> Path:
    """As it can be typed in the checkout: as it was given, or shorter."""
    if Path.cwd() != ROOT:
        store = store.resolve()
    return store.relative_to(ROOT) if store.is_relative_to(ROOT) else store
