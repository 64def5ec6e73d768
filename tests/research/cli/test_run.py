"""A user's mistake is one sentence; any other failure is ours and keeps its traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from typing import Literal

import pytest

from research.cli import run as cli
from research.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Options:
    """What there is to choose."""

    n: int = 1
    """A number."""


@dataclass(frozen=True, kw_only=True)
class Typed(Options):
    """One of each kind."""

    ratio: float = 0.5
    """A number."""
    until: date | None = None
    """A day."""
    touch: Literal["high", "low"] = "high"
    """A choice."""
    layers: tuple[int, ...] = ()
    """A list."""
    span: tuple[float, float] = (0.0, 1.0)
    """Two numbers."""
    add_trials: int | None = None
    """What make calls otherwise."""


@pytest.fixture(autouse=True)
def command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["verb", "--n", "2"])
    # The tests' own process keeps its way to end.
    monkeypatch.setattr(signal, "signal", lambda *_: None)


def raising(problem: BaseException, *, resumes: bool = False) -> None:
    def main(_: Options) -> None:
        raise problem

    cli.run(main, Options, resumes=resumes)


def test_a_verb_gets_its_options() -> None:
    got: list[int] = []
    cli.run(lambda options: got.append(options.n), Options)
    assert got == [2]


def test_a_mistake_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        raising(InputError("BUDGET=x: give another one."))
    assert ended.value.code == cli.MISTAKE
    assert capsys.readouterr().err == "error: BUDGET=x: give another one.\n"


@pytest.mark.parametrize("problem", [ValueError("not theirs"), KeyError("nor this")])
def test_our_own_mistakes_pass_through(problem: Exception) -> None:
    with pytest.raises(type(problem), match=r"not theirs|nor this"):
        raising(problem)


@pytest.mark.parametrize("resumes", [True, False])
def test_ctrl_c_says_how_to_go_on_where_that_is_possible(capsys: pytest.CaptureFixture[str], resumes: bool) -> None:
    with pytest.raises(SystemExit) as ended:
        raising(KeyboardInterrupt(), resumes=resumes)
    assert ended.value.code == cli.INTERRUPTED
    assert ("the same command goes on" in capsys.readouterr().err) == resumes


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--n", "x"], "N=x: give a whole number."),
        (["--n=x"], "N=x: give a whole number."),
        (["--n"], "N=: give a whole number."),
        (["--ratio", "low"], "RATIO=low: give a number."),
        (["--until", "2011"], "UNTIL=2011: give a date such as 2011-12-31."),
        (["--touch", "lo"], "TOUCH=lo: give high or low."),
        (["--layers", "3", "x"], "LAYERS=3,x: give whole numbers (commas between them for make, spaces behind the flag)."),
        (["--span", "1"], "SPAN=1: give 2 numbers."),
        (["--add-trials", "x"], "TRIALS=x: give a whole number."),
        (["--layer", "3"], "--layer: no such flag; did you mean --layers?"),
        (["--zzz"], "--zzz: no such flag; --help (make: HELP=1) lists them."),
        (["3"], "3: stands behind no flag that takes it; --help (make: HELP=1) lists them."),
        (["--n", "1", "2"], "2: stands behind no flag that takes it; --help (make: HELP=1) lists them."),
    ],
)
def test_what_is_typed_wrongly_is_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(InputError) as mistake:
        cli.parsed(Typed, arguments, "verb")
    assert str(mistake.value) == sentence


def test_another_tyro_tells_a_mistake_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tyro._errors", None)
    monkeypatch.delitem(sys.modules, "research.cli.parse_errors", raising=False)
    assert cli.parsed(Options, ["--n", "3"], "verb").n == 3
    with pytest.raises(SystemExit):
        cli.parsed(Options, ["--n", "x"], "verb")
    assert "--n" in capsys.readouterr().err


def test_a_closed_pipe_is_the_end_of_a_verb_and_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "research.features.catalogue_table"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as verb:
        assert verb.stdout is not None
        assert verb.stderr is not None
        verb.stdout.close()
        told = verb.stderr.read()
    assert told == ""
