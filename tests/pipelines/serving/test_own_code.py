"""A registered model answers with the code that it was registered with, whatever is installed or checked out later."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest

from pipelines.serving import packaging
from pipelines.serving.own_code import LIBRARY, write_own_code
from pipelines.serving.packaging import SERVED_FILE, as_table, log_model
from pipelines.sweep.state import Sweep
from research.errors import InputError
from research.tracking import schema
from research.tracking.registry import SelectedVersion, chosen, load
from research.tracking.store import Store, open_store
from tests.support.small_sweeps import copy_of, run
from tests.support.verbs import ROOT, command

RSI = "partial(talib.RSI, timeperiod=14)"
OTHER_RSI = "partial(talib.RSI, timeperiod=10)"


@pytest.fixture(scope="module")
def sweep(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return run(copy_of(migrated_store, tmp_path_factory.mktemp("own_code")), registers=True, trials=1)


@pytest.fixture(scope="module")
def store(sweep: Sweep) -> Store:
    return open_store(sweep.context.store.root)


@pytest.fixture(scope="module")
def bars(sweep: Sweep) -> pd.DataFrame:
    return as_table({"^GSPC": sweep.context.task.snapshot.of("^GSPC").tail(700)})


@pytest.fixture(scope="module")
def registered(store: Store, bars: pd.DataFrame) -> pd.DataFrame:
    """Answers of the registered version."""
    return load(store, chosen(store)[0]).predict(bars)


def with_other_formula(folder: Path) -> Path:
    """Return a copy of the library whose RSI has another period."""
    library = folder / "research"
    shutil.copytree(LIBRARY, library, ignore=shutil.ignore_patterns("__pycache__"))
    columns = library / "features" / "reference_columns.py"
    source = columns.read_text()
    assert RSI in source
    columns.write_text(source.replace(RSI, OTHER_RSI))
    return library


def test_nothing_of_the_checkout_answers(
    store: Store, bars: pd.DataFrame, registered: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("build", "check_bars", "adjusted", "load_weights", "predict_float64"):
        for module in list(sys.modules.values()):
            if module.__name__.split(".")[0] == "research" and hasattr(module, name):
                monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("the checkout answered"))
    again = load(store, chosen(store)[0]).predict(bars)
    assert again["date"].equals(registered["date"])
    assert again["probability"].to_numpy() == pytest.approx(registered["probability"].to_numpy(), abs=1e-9)


def test_the_answer_is_the_same_from_a_checkout_with_another_formula(
    store: Store, bars: pd.DataFrame, registered: pd.DataFrame, tmp_path: Path
) -> None:
    for package in ("pipelines", "analysis", "tapescale"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    with_other_formula(tmp_path)
    bars.to_csv(tmp_path / "bars.csv", index=False)
    script = (
        "import sys, pandas as pd, tapescale, research\n"
        "bars = pd.read_csv('bars.csv', dtype={'date': str})\n"
        f"answers = tapescale.load_model({chosen(store)[0].name!r}, store={str(store.root)!r}).predict(bars)\n"
        "answers.to_csv('answers.csv', index=False)\n"
        "print(research.__file__)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == str(tmp_path / "research" / "__init__.py")
    answers = pd.read_csv(tmp_path / "answers.csv")
    assert answers["probability"].to_numpy() == pytest.approx(registered["probability"].to_numpy(), abs=1e-9)


def test_two_versions_with_different_code_answer_side_by_side(
    sweep: Sweep, store: Store, bars: pd.DataFrame, registered: pd.DataFrame, tmp_path: Path
) -> None:
    assert sweep.best is not None
    assert sweep.best.spec is not None
    other = store.client.create_run(sweep.context.experiment_id).info.run_id
    weights = store.local_artifact(sweep.best.run_id, schema.WEIGHTS_FILE)
    library = with_other_formula(tmp_path)
    with patch.object(packaging, "write_own_code", lambda script, folder: write_own_code(script, folder, library)):
        log_model(store, other, sweep.context.task, sweep.best.spec, [weights])
    (first,) = chosen(store)
    changed = load(store, SelectedVersion(name="other", version="1", alias="", run_id=other))
    original = load(store, first)
    for _ in range(2):
        answers, others = original.predict(bars), changed.predict(bars)
        assert answers["probability"].to_numpy() == pytest.approx(registered["probability"].to_numpy(), abs=1e-9)
        assert abs(others["probability"] - answers["probability"]).max() > 1e-4
    loaded = {name.split(".")[0] for name in sys.modules if name.startswith(schema.OWN_CODE)}
    assert len(loaded) >= 2


def test_the_package_holds_what_answering_needs_and_nothing_else(tmp_path: Path) -> None:
    script, package = write_own_code(SERVED_FILE, tmp_path)
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert {"features/feature_sets.py", "task/windows.py", "models/kernels/kernels.cpp", "models/weights.py"} <= files
    rooms = {name.partition("/")[0] for name in files if "/" in name}
    assert rooms == {"data", "features", "task", "models", "evaluation"}
    assert not {"data/yahoo", "data/sources.py", "data/snapshots.py"} & files
    assert len(files) < 50
    assert sum((package / name).stat().st_size for name in files) < 400_000
    for source in (script, *package.rglob("*.py")):
        assert not [
            line for line in source.read_text().splitlines() if line.strip().startswith(("from research", "import research"))
        ]


def test_the_same_code_has_the_same_name_and_other_code_another(tmp_path: Path) -> None:
    _, first = write_own_code(SERVED_FILE, tmp_path / "a")
    _, again = write_own_code(SERVED_FILE, tmp_path / "b")
    _, other = write_own_code(SERVED_FILE, tmp_path / "c", with_other_formula(tmp_path))
    assert first.name == again.name != other.name


def test_a_version_without_its_own_code_is_refused_in_one_sentence(sweep: Sweep, tmp_path: Path) -> None:
    root = copy_of(sweep.context.store.root, tmp_path)
    copied = open_store(root)
    (version,) = chosen(copied)
    folder = copied.local_artifact(version.run_id, schema.MODEL_FOLDER)
    (package,) = (folder / "code").iterdir()
    package.rename(folder / "code" / "research")
    with pytest.raises(InputError, match=rf"MODEL={version.name}: version 1 carries no code of its own.*make train"):
        load(copied, version)
    ran = subprocess.run(command("predict", "STALE_OK=1", f"STORE={root}"), cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 2
    assert "carries no code of its own" in ran.stderr + ran.stdout
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("line", ["from . import spec", "import research.spec"])
def test_an_import_that_a_copy_cannot_follow_is_refused(line: str, tmp_path: Path) -> None:
    script = tmp_path / "served.py"
    script.write_text(f"{line}\n")
    with pytest.raises(ImportError, match=r"write `from research\.x import y`"):
        write_own_code(script, tmp_path / "copy")
