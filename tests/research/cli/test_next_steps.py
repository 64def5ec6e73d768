"""What a verb says to type next acts on the store that the verb acted on."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from pipelines.checks.tour import _print_end
from pipelines.sweep.messages import print_summary
from research.cli.next_steps import USUAL, print_next, with_store_argument
from research.cli.variables import as_flags
from tests.support.verbs import ROOT, commands_to_type, options_of

SOURCES = [path for room in ("research", "pipelines", "analysis") for path in (ROOT / room).rglob("*.py")]


def made(command: str) -> list[str]:
    """Words of what `make` would run for a hint, copied into a shell."""
    words = command.replace("make ", "make -n -s -o .venv/.installed ", 1)
    ran = subprocess.run(words, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    _, _, _, _, _, verb, *typed = shlex.split(ran.stdout)
    return as_flags(typed, options_of(verb), verb)


@pytest.mark.parametrize("usual", [Path("mlruns"), USUAL, Path("docs/../mlruns")])
def test_the_usual_store_is_not_named(usual: Path) -> None:
    assert with_store_argument(usual, "make ui") == "make ui"


@pytest.mark.parametrize(
    ("given", "typed"),
    [
        ("mlruns/practice", "mlruns/practice"),
        (str(ROOT / "mlruns" / "practice"), "mlruns/practice"),
        ("../other", "../other"),
        ("/data/mlruns", "/data/mlruns"),
    ],
)
def test_another_store_is_named_as_it_can_be_typed_in_the_checkout(given: str, typed: str) -> None:
    assert with_store_argument(Path(given), "make ui PORT=5002") == f"make ui PORT=5002 STORE={typed}"


def test_a_path_that_is_relative_to_another_folder_is_told_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert with_store_argument(Path("mlruns"), "make ui") == f"make ui STORE={tmp_path}/mlruns"
    assert with_store_argument(USUAL, "make ui") == "make ui"


@pytest.mark.parametrize("odd", ["my store", "it's", "a$b", "a#b", "[red]", "a;b", "a\\b"])
def test_an_odd_path_comes_back_as_it_was_through_shell_and_make(odd: str, tmp_path: Path) -> None:
    words = made(with_store_argument(tmp_path / odd, "make ui"))
    assert f"--store={tmp_path / odd}" in words


def test_the_line_is_neither_broken_nor_taken_for_markup() -> None:
    page = StringIO()
    store = Path("/data/[bold]" + "x" * 100)
    print_next(Console(file=page, width=40), store, "make ui", "(words)", "make compare")
    named = f"STORE='{store}'"
    assert page.getvalue() == f"next  make ui {named}   (words)   make compare {named}\n"


def test_a_sweep_names_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, result in {"sweep_link": "http", "results_table": "", "replicates_of": []}.items():
        monkeypatch.setattr(f"pipelines.sweep.messages.{name}", lambda *_, told=result, **__: told)
    context = SimpleNamespace(store=SimpleNamespace(is_local=True), experiment_id="1", task=SimpleNamespace(experiment=""))
    options, log = SimpleNamespace(store=tmp_path), SimpleNamespace(run_id="a")
    page = StringIO()
    sweep = SimpleNamespace(options=options, context=context, log=log, best=None, finished=[], title="")
    print_summary(sweep, None, Console(file=page, width=60))  # type: ignore[arg-type]
    assert f"see   make ui STORE={tmp_path}, then http\n" in page.getvalue()
    assert commands_to_type(page.getvalue(), tmp_path)[:2] == ["make leaderboard", "make scaling"]


def test_the_tour_leads_to_its_pages_and_then_to_the_users_own_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _print_end(["doctor"], [1.0], 1.0, tmp_path)
    told = capsys.readouterr().out
    assert f"look  make ui STORE={tmp_path}   " in told
    assert "next  make sweep BUDGET=20K   (your own store, mlruns/)" in told


def test_no_hint_goes_past_the_one_place_for_them() -> None:
    texts = {(path.name, node.value) for path in SOURCES for node in constants(ast.parse(path.read_text()))}
    found = {(name, text) for name, text in texts if isinstance(text, str) and re.match(r"\s*next  ", text)}
    assert found == {("next_steps.py", "next  ")}, "say it with research.cli.next_steps.print_next"


def test_every_command_of_a_hint_is_one_that_takes_a_store() -> None:
    hints = [found for path in SOURCES for found in hinted(path)]
    assert len(hints) > 30
    for verb in sorted(set(hints)):
        assert "--store=/data/mlruns" in made(f"make {verb} STORE=/data/mlruns"), verb


def hinted(path: Path) -> list[str]:
    """The verbs of the commands that a file hands to `with_store_argument` and `print_next`."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    hinting = [one for one in calls if ast.unparse(one.func) in ("with_store_argument", "print_next")]
    texts = [str(node.value) for one in hinting for node in constants(one)]
    return [found[1] for text in texts if (found := re.match(r"make ([a-z]+)", text))]


def constants(tree: ast.AST) -> Iterator[ast.Constant]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
