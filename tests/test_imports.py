"""Rooms import only what their row allows, and never in a circle; read off the imports of every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("research", "pipelines", "analysis", "benchmarks", "tapescale")
BY_NAME = ("importlib.import_module", "import_module", "__import__")


@dataclass(frozen=True, kw_only=True)
class Room:
    """What the files of one room may import."""

    ours: tuple[str, ...] = ()
    """Packages and modules of this repository, besides the room itself."""
    others: tuple[str, ...] | None = None
    """Third-party packages; None means any that has no owner. The standard library is always allowed."""
    never: tuple[str, ...] = ()
    """Third-party packages that this room must work without."""


BASE = ("research.errors", "research.counts", "research.fingerprint", "research.spec")
NUMBERS = ("torch", "optuna", "ray")
TRIAL = ("research", "pipelines.trial", "pipelines.data", "pipelines.options")
SWEEP = (*TRIAL, "pipelines.executors", "pipelines.serving", "pipelines.sweep")
READ = (*BASE, "research.cli", "research.evaluation", "research.tracking")

# One row per room: the longest path that a file's path starts with. Rooms stand below those that they import.
ROOMS = {
    "research/__init__.py": Room(others=()),
    "research/errors.py": Room(others=()),
    "research/counts.py": Room(ours=("research.errors",), others=()),
    "research/fingerprint.py": Room(others=()),
    "research/spec.py": Room(ours=("research.errors", "research.fingerprint"), others=()),
    "research/processes.py": Room(others=()),
    "research/runtime.py": Room(ours=("research.errors",), others=("torch", "numpy", "psutil")),
    "research/measurement_cache.py": Room(ours=(*BASE, "research.runtime"), others=("torch", "filelock")),
    "research/cli/": Room(ours=("research.errors",), others=("tyro", "rich")),
    "research/data/": Room(ours=BASE, never=NUMBERS),
    "research/features/": Room(ours=(*BASE, "research.data"), never=NUMBERS),
    "research/features/catalogue_table.py": Room(ours=(*BASE, "research.cli", "research.features")),
    "research/task/": Room(ours=(*BASE, "research.data", "research.features")),
    "research/models/": Room(ours=(*BASE, "research.task")),
    "research/models/kernels/": Room(ours=("research.errors",), others=("torch", "numpy")),
    "research/evaluation/": Room(ours=BASE, others=("numpy", "scipy", "pandas", "sklearn")),
    "research/training/": Room(
        ours=(
            *BASE,
            "research.runtime",
            "research.processes",
            "research.task",
            "research.models",
            "research.evaluation",
        )
    ),
    "research/tracking/": Room(ours=(*BASE, "research.cli.next_steps"), never=NUMBERS),
    "pipelines/__init__.py": Room(ours=("research.tracking",)),
    "pipelines/options.py": Room(ours=(*BASE, "research.task.options")),
    "pipelines/data/": Room(ours=("research",)),
    "pipelines/trial/": Room(ours=("research",)),
    "pipelines/executors/": Room(ours=("research", "pipelines.trial", "pipelines.options")),
    "pipelines/serving/": Room(ours=("research", "pipelines.data")),
    "pipelines/sweep/": Room(ours=SWEEP),
    "pipelines/plan/": Room(ours=SWEEP),
    "pipelines/study/": Room(ours=SWEEP),
    "pipelines/final/": Room(ours=SWEEP),
    "pipelines/registry/": Room(ours=("research", "pipelines.final", "pipelines.serving")),
    "pipelines/checks/": Room(ours=SWEEP),
    "pipelines/adopt/": Room(ours=("research",)),
    "analysis/": Room(
        ours=(*READ, "analysis.results", "analysis.laws", "analysis.figures", "analysis.monitor", "analysis"), never=NUMBERS
    ),
    "analysis/results/": Room(ours=(*READ, "analysis.laws"), never=(*NUMBERS, "rich", "matplotlib")),
    "analysis/laws/": Room(ours=(*BASE, "research.cli"), never=NUMBERS),
    "analysis/figures/": Room(ours=(*READ, "analysis.results"), never=NUMBERS),
    "analysis/monitor/": Room(ours=(*READ,), never=NUMBERS),
    "analysis/report/": Room(ours=(*READ, "analysis"), never=NUMBERS),
    # A trade needs prices: the one room of analysis that reads bars, by the reader that verifies them.
    "analysis/backtest/": Room(
        ours=(*READ, "analysis", "research.data.snapshots", "research.data.dividend_adjustment"), never=NUMBERS
    ),
    "tapescale/": Room(ours=("research", "pipelines", "analysis"), never=NUMBERS),
    "benchmarks/": Room(ours=("research", "pipelines", "analysis")),
}

# Packages that only these places may import.
OWNERS = {
    "mlflow": (
        "research/tracking/",
        "pipelines/serving/",
        "benchmarks/peer_tracking.py",
    ),
    "optuna": ("pipelines/sweep/", "benchmarks/"),
    "ray": ("pipelines/executors/",),
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
    room = max((room for room in ROOMS if path.startswith(room)), key=len, default=None)
    if room is None:
        return [f"{path} is in no room of the table: add one for it"]
    return [
        f"{path}:{line} imports {name}: {reason}"
        for line, name in sorted(imports(source, path))
        if (reason := _forbidden(name, path, room))
    ]


def _forbidden(name: str, path: str, room: str) -> str:
    rule, top = ROOMS[room], name.split(".")[0]
    if top in OURS:
        own = room.rstrip("/").replace("/", ".") if room.endswith("/") else ""
        allowed = any(f"{name}.".startswith(f"{prefix}.") for prefix in (*rule.ours, own) if prefix)
        return "" if allowed else f"{room} may import of ours only {', '.join(rule.ours) or 'nothing'}"
    if top in sys.stdlib_module_names:
        return ""
    if top in OWNERS and not path.startswith(OWNERS[top]):
        return f"only {', '.join(OWNERS[top])} may"
    if top in rule.never:
        return f"{room} must work without it"
    if rule.others is not None and top not in rule.others:
        return f"{room} may import only {', '.join(rule.others) or 'the standard library'}"
    return ""


@pytest.mark.parametrize("package", OURS)
def test_every_room_imports_what_its_row_allows(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    found = [line for file in files for line in violations(file.read_text(), file.relative_to(ROOT).as_posix())]
    assert files
    assert not found, "\n" + "\n".join(found)


def test_no_room_and_no_file_imports_in_a_circle() -> None:
    files = [file.relative_to(ROOT).as_posix() for package in OURS for file in (ROOT / package).rglob("*.py")]
    modules = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in files}
    between_files: dict[str, set[str]] = {}
    between_rooms: dict[str, set[str]] = {}
    for path in files:
        for _, name in imports((ROOT / path).read_text(), path):
            target = modules.get(name) or modules.get(name.rpartition(".")[0])
            if target and target != path:
                between_files.setdefault(path, set()).add(target)
                room, other = Path(path).parent.as_posix(), Path(target).parent.as_posix()
                if room != other and not other.endswith("research"):
                    between_rooms.setdefault(room, set()).add(other)
    assert list(TopologicalSorter(between_files).static_order())
    assert list(TopologicalSorter(between_rooms).static_order())


def test_every_room_of_the_table_exists() -> None:
    places = [*ROOMS, *(place for owned in OWNERS.values() for place in owned)]
    assert [place for place in places if not (ROOT / place).exists()] == []


@pytest.mark.parametrize(
    ("path", "line", "name", "source"),
    [
        ("research/spec.py", 1, "numpy", "import numpy as np"),
        ("research/runtime.py", 1, "research.models.layers", "from research.models import layers"),
        ("research/data/bars.py", 1, "research.features.indicators", "import research.features.indicators"),
        ("research/features/new.py", 1, "research.windows", "from research import windows"),
        ("research/task/new.py", 2, "mlflow.pyfunc", "def late():\n    import mlflow.pyfunc"),
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
        ("pipelines/trial/new.py", 1, "pipelines.sweep.sampler", "import pipelines.sweep.sampler"),
        ("pipelines/serving/new.py", 1, "optuna", "import optuna"),
        ("pipelines/sweep/new.py", 1, "ray", "import ray"),
        ("analysis/results/new.py", 1, "rich.table.Table", "from rich.table import Table"),
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
        ("research/task/new.py", "from research.features.scaler import Scaler\nfrom research import spec"),
        ("research/training/new.py", "import torch.nn.functional as F\nfrom .metrics import scores"),
        ("research/training/new.py", "if TYPE_CHECKING:\n    from research.tracking import store"),
        ("pipelines/serving/packaging.py", "import mlflow.pyfunc\nfrom research.tracking import store"),
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
