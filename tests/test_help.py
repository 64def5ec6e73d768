"""Every verb says what it does, what each flag means, and shows commands that it takes."""

from __future__ import annotations

import ast
import inspect
import shlex
import subprocess
from dataclasses import is_dataclass

import pytest

from research.cli import run as cli
from tests.support.verbs import NAMES, ROOT, options_of


@pytest.mark.parametrize("verb", NAMES)
def test_every_example_is_a_command_that_its_verb_takes(verb: str) -> None:
    options_type = options_of(verb)
    shown = [line.strip() for line in cli.description(options_type).partition(f"{cli.EXAMPLES}\n")[2].splitlines()]
    assert 2 <= len(shown) <= 5, f"give {options_type.__name__} two or three lines below `{cli.EXAMPLES}` in its docstring"
    assert any(line.startswith("make ") for line in shown)
    for line in shown:
        program, name, *words = shlex.split(line)
        assert (program in ("make", "tapescale"), name) == (True, verb), line
        cli.parsed(options_type, words, verb)


@pytest.mark.parametrize("verb", NAMES)
def test_every_verb_and_every_flag_says_what_it_means(verb: str) -> None:
    options_type = options_of(verb)
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


def test_make_says_where_the_verbs_are_to_whom_mistypes_one() -> None:
    ran = subprocess.run(["make", "swep"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: swep: no such verb; `make` lists them.")


def test_make_alone_is_one_screen() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert len(shown.splitlines()) <= 48
