"""The verbs of the Makefile, as modules with a `main` and the options that it takes."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
MODULES = sorted(set(re.findall(r"-m ((?:pipelines|analysis|research)(?:\.\w+)+)", (ROOT / "Makefile").read_text())))


def commands_to_type(said: str, store: Path) -> list[str]:
    """The commands of the last `next` line, each without the STORE= that it must end with."""
    line = next(line for line in reversed(said.splitlines()) if line.startswith("next "))
    commands = [one for one in re.split(r"\s{2,}", line) if one.startswith("make ")]
    assert commands, line
    for one in commands:
        assert one.endswith(f" STORE={store}"), one
    return [one.removesuffix(f" STORE={store}") for one in commands]


def module_of(verb: str) -> ModuleType:
    """What `python -m` runs."""
    loaded = importlib.import_module(verb)
    return importlib.import_module(f"{verb}.__main__") if hasattr(loaded, "__path__") else loaded


def options_of(verb: str) -> type[Any]:
    """The class that the module's last lines hand to `cli.run`."""
    loaded = module_of(verb)
    handed = re.search(r"^    run\(main, (\w+)(?:, resumes=True)?\)$", inspect.getsource(loaded), re.MULTILINE)
    assert handed is not None, f"{verb} does not end with run(main, <options>)"
    return getattr(loaded, handed[1])  # type: ignore[no-any-return]
