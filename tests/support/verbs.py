"""The verbs of the command line, with their `main` and their options."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from research.cli import run as cli
from tapescale.cli import VERBS

ROOT = Path(__file__).parents[2]
NAMES = sorted(VERBS)


def command(verb: str, *words: str) -> list[str]:
    """Return the command line of a verb in this environment."""
    return [sys.executable, "-m", "tapescale", verb, *words]


def main_of(verb: str) -> Callable[[Any], None]:
    """Return the function that the verb runs."""
    main: Callable[[Any], None] = import_module(VERBS[verb].module).main
    return main


def options_of(verb: str) -> type[Any]:
    """Return the options class of the verb."""
    return cli.options_of(main_of(verb))


def commands_to_type(output: str, store: Path) -> list[str]:
    """Return the commands of the last `next` line, each without the STORE= that it must end with."""
    line = next(line for line in reversed(output.splitlines()) if line.startswith("next "))
    commands = [words for words in re.split(r"\s{2,}", line) if words.startswith("make ")]
    assert commands, line
    for words in commands:
        assert words.endswith(f" STORE={store}"), words
    return [words.removesuffix(f" STORE={store}") for words in commands]
