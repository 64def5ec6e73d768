"""Every verb says what it does, what each flag means, and shows commands that it takes."""

from __future__ import annotations

import ast
import inspect
import os
import shlex
import subprocess
from dataclasses import is_dataclass
from pathlib import Path

import pytest

from research.cli import run as cli
from tests.support.verbs import MODULES, ROOT, options_of


def python_form(command: str) -> list[str]:
    """Words of the Python command that a line of an example runs."""
    if command.startswith("make "):
        # Without the environment's own rule, which a fresh clone would have to run first.
        words = ["make", "-n", "-s", "-o", ".venv/.installed", *shlex.split(command)[1:]]
        ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        command = ran.stdout.replace("\\\n", " ").strip().splitlines()[-1]
    return shlex.split(command)


@pytest.mark.parametrize("module", MODULES)
def test_every_example_is_a_command_that_its_verb_takes(module: str) -> None:
    options_type = options_of(module)
    shown = [line.strip() for line in cli.description(options_type).partition(f"{cli.EXAMPLES}\n")[2].splitlines()]
    assert 2 <= len(shown) <= 5, f"give {options_type.__name__} two or three lines below `{cli.EXAMPLES}` in its docstring"
    assert any(line.startswith("make ") for line in shown)
    for line in shown:
        python, dash_m, started, *arguments = python_form(line)
        assert (Path(python).name, dash_m, started) == ("python", "-m", module), line
        cli.parsed(options_type, arguments, module)


@pytest.mark.parametrize("module", MODULES)
def test_every_verb_and_every_flag_says_what_it_means(module: str) -> None:
    options_type = options_of(module)
    assert is_dataclass(options_type)
    told = cli.description(options_type).partition(cli.EXAMPLES)[0].strip()
    assert told.endswith((".", "?"))
    for part in options_type.__mro__[:-1]:
        body = ast.parse(inspect.cleandoc(inspect.getsource(part))).body[0].body  # type: ignore[attr-defined]
        silent = [
            one.target.id  # type: ignore[union-attr]
            for one, after in zip(body, [*body[1:], None], strict=True)
            if isinstance(one, ast.AnnAssign) and not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
        ]
        assert not silent, f"{part.__name__}: no docstring under {silent}"


def test_make_shows_the_help_of_a_verb() -> None:
    ran = subprocess.run(["make", "-n", "ui", "HELP=1"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split()[-2:] == ["pipelines.serving.ui", "--help"]


@pytest.mark.parametrize("verb", ["setup", "lint", "notebook", "screenshots"])
def test_help_of_a_verb_without_flags_does_nothing(verb: str) -> None:
    ran = subprocess.run(["make", "-n", verb, "HELP=1"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 2
    assert f"error: HELP=1: {verb} has no flags" in ran.stderr
    assert ran.stdout == ""


@pytest.mark.parametrize("name", ["COLUMNS", "NAME"])
def test_what_a_system_exports_by_itself_is_no_setting(name: str) -> None:
    command = ["make", "-n", "-o", ".venv/.installed", "data"]
    exported = {**os.environ, name: "120"}
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=exported)
    assert "120" not in ran.stdout
    ran = subprocess.run([*command, f"{name}=120"], cwd=ROOT, capture_output=True, text=True, check=True, env=exported)
    assert f"--{name.lower()} '120'" in ran.stdout


def test_make_says_where_the_verbs_are_to_whom_mistypes_one() -> None:
    ran = subprocess.run(["make", "swep"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: swep: no such verb; `make` lists them.")


def test_make_alone_is_one_screen() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert len(shown.splitlines()) <= 48
