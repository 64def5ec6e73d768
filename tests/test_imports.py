"""The layout's floors hold: who may import whom is read off the imports of every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("research", "pipelines", "analysis")
BY_NAME = ("importlib.import_module", "import_module", "__import__")


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What the files of one room may import."""

    ours: tuple[str, ...] = ()
    """Packages and modules of this repository."""
    others: tuple[str, ...] | None = None
    """Third-party packages; None means any that has no owner. The standard library is always allowed."""
    never: tuple[str, ...] = ()
    """Third-party packages that this room must work without."""


# The longest path that a file's path starts with is its room.
FLOORS = {
    "research/__init__.py": Floor(others=()),
    "research/spec.py": Floor(others=()),
    "research/runtime.py": Floor(ours=("research.spec",), others=("torch", "numpy", "psutil")),
    "research/processes.py": Floor(others=()),
    "research/cli/next_steps.py": Floor(others=()),
    "research/evaluation/significance.py": Floor(ours=("research.spec",), others=("numpy", "scipy")),
    "research/cli/run.py": Floor(
        ours=("research.spec", "research.cli.parse_errors", "research.cli.next_steps"), others=("tyro",)
    ),
    "research/cli/parse_errors.py": Floor(ours=("research.spec",), others=("tyro",)),
    "research/data/": Floor(ours=("research.spec", "research.data")),
    "research/features/": Floor(ours=("research.spec", "research.data", "research.features")),
    "research/features/__main__.py": Floor(ours=("research.cli.run", "research.spec", "research.features")),
    "research/windows/": Floor(ours=("research.spec", "research.data", "research.features", "research.windows")),
    "research/models/": Floor(ours=("research.spec", "research.models")),
    "research/training/": Floor(
        ours=(
            "research.spec",
            "research.runtime",
            "research.processes",
            "research.features",
            "research.windows",
            "research.models",
            "research.training",
        )
    ),
    "research/tracking/": Floor(ours=("research.spec", "research.cli.next_steps", "research.tracking"), never=("torch",)),
    "pipelines/": Floor(ours=("research", "pipelines")),
    "analysis/": Floor(
        ours=(
            "research.spec",
            "research.evaluation.significance",
            "research.cli.run",
            "research.cli.next_steps",
            "research.tracking",
            "analysis",
        ),
        never=("torch",),
    ),
    # A trade needs prices: the one part that reads bars, by the reader that verifies them.
    "analysis/backtest/predictions.py": Floor(
        ours=("research.spec", "research.tracking", "research.data.snapshots", "research.data.dividend_adjustment", "analysis"),
        never=("torch",),
    ),
}

# Packages that only these places may import.
OWNERS = {
    "mlflow": (
        "research/tracking/",
        "pipelines/serving/packaging.py",
        "pipelines/serving/served_model.py",
        "pipelines/serving/scoring_app.py",
        "benchmarks/peer_tracking.py",
    ),
    "optuna": ("pipelines/",),
    "ray": ("pipelines/",),
}


def imports(source: str, path: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import that runs, those inside functions too; types alone load nothing."""
    package = path.removesuffix(".py").split("/")[:-1]
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting.extend(node.orelse)
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in BY_NAME:
            yield node.lineno, node.args[0].value if isinstance(node.args[0], ast.Constant) else "a computed name"


def violations(source: str, path: str) -> list[str]:
    """One sentence, with file and line, for every import that the table forbids."""
    room = max((room for room in FLOORS if path.startswith(room)), key=len, default=None)
    if room is None:
        return [f"{path} is in no room of the table: add one for it"]
    return [
        f"{path}:{line} imports {name}: {reason}"
        for line, name in sorted(imports(source, path))
        if (reason := _forbidden(name, path, room))
    ]


def _forbidden(name: str, path: str, room: str) -> str:
    floor, top = FLOORS[room], name.split(".")[0]
    if top in OURS:
        allowed = any(f"{name}.".startswith(f"{prefix}.") for prefix in floor.ours)
        return "" if allowed else f"{room} may import of ours only {', '.join(floor.ours) or 'nothing'}"
    if top in sys.stdlib_module_names:
        return ""
    if top in OWNERS and not path.startswith(OWNERS[top]):
        return f"only {', '.join(OWNERS[top])} may"
    if top in floor.never:
        return f"{room} must work without it"
    if floor.others is not None and top not in floor.others:
        return f"{room} may import only {', '.join(floor.others) or 'the standard library'}"
    return ""


@pytest.mark.parametrize("package", OURS)
def test_every_import_stays_on_its_floor(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    found = [line for file in files for line in violations(file.read_text(), file.relative_to(ROOT).as_posix())]
    assert files
    assert not found, "\n" + "\n".join(found)


def test_every_room_of_the_table_exists() -> None:
    places = [*FLOORS, *(place for owned in OWNERS.values() for place in owned)]
    assert [place for place in places if not (ROOT / place).exists()] == []


@pytest.mark.parametrize(
    ("path", "line", "name", "source"),
    [
        ("research/spec.py", 1, "numpy", "import numpy as np"),
        ("research/runtime.py", 1, "research.models.layers", "from research.models import layers"),
        ("research/data/bars.py", 1, "research.features.indicators", "import research.features.indicators"),
        ("research/features/new.py", 1, "research.windows", "from research import windows"),
        ("research/windows/new.py", 2, "mlflow.pyfunc", "def late():\n    import mlflow.pyfunc"),
        ("research/models/new.py", 1, "research.training.trainer", "import research.training.trainer"),
        ("research/models/new.py", 1, "research.specimen", "import research.specimen"),
        ("research/training/new.py", 1, "optuna", "import torch, optuna"),
        ("research/training/new.py", 1, "research.tracking.schema", "from ..tracking import schema"),
        ("research/training/new.py", 2, "research.tracking", "from .metrics import scores\nfrom .. import tracking"),
        ("research/tracking/new.py", 2, "torch", "try:\n    import torch\nexcept ImportError:\n    torch = None"),
        (
            "research/tracking/new.py",
            1,
            "research.evaluation.significance.Difference",
            "from research.evaluation.significance import Difference",
        ),
        ("pipelines/trial/trial.py", 1, "mlflow", "import mlflow"),
        ("pipelines/sweep/sweep.py", 1, "analysis.leaderboard.main", "from analysis.leaderboard import main"),
        ("analysis/new.py", 1, "research", "import research"),
        ("analysis/new.py", 2, "optuna", "import importlib\nimportlib.import_module('optuna')"),
        ("analysis/new.py", 4, "pipelines.trial.trial", "if TYPE_CHECKING:\n    pass\nelse:\n    import pipelines.trial.trial"),
    ],
)
def test_a_forbidden_import_is_named_with_file_and_line(path: str, line: int, name: str, source: str) -> None:
    (sentence,) = violations(source, path)
    assert sentence.startswith(f"{path}:{line} imports {name}: ")


def test_a_file_without_a_room_is_named() -> None:
    assert violations("", "research/elsewhere.py") == ["research/elsewhere.py is in no room of the table: add one for it"]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("research/spec.py", "from __future__ import annotations\nimport json, os.path\nfrom datetime import date"),
        ("research/windows/new.py", "from research.features.scaler import Standardiser\nfrom research import spec"),
        ("research/training/new.py", "import torch.nn.functional as F\nfrom .metrics import scores"),
        ("research/training/new.py", "if TYPE_CHECKING:\n    from research.tracking import store"),
        ("pipelines/serving/packaging.py", "import mlflow.pyfunc\nimport optuna\nfrom research.tracking import store"),
    ],
)
def test_what_the_table_allows_passes(path: str, source: str) -> None:
    assert violations(source, path) == []


@pytest.mark.parametrize(
    ("module", "unloaded"),
    [
        ("research.tracking.query", ("torch", "optuna")),
        ("research.training.trainer", ("mlflow", "optuna")),
        ("research.spec", ("numpy", "torch", "pandas")),
    ],
)
def test_importing_a_room_does_not_load(module: str, unloaded: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*[name for name in {unloaded} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
