"""A user's mistake is one sentence; any other failure is ours and keeps its traceback."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass

import pytest

from research import cli
from research.spec import InputError


@dataclass(frozen=True, kw_only=True)
class Options:
    """What there is to choose."""

    n: int = 1
    """A number."""


@pytest.fixture(autouse=True)
def command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["verb", "--n", "2"])
    # The tests' own process keeps its way to end.
    monkeypatch.setattr(signal, "signal", lambda *_: None)


def raising(problem: BaseException) -> None:
    def main(_: Options) -> None:
        raise problem

    cli.run(main, Options)


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


def test_ctrl_c_says_where_the_results_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        raising(KeyboardInterrupt())
    assert ended.value.code == cli.INTERRUPTED
    assert "make leaderboard" in capsys.readouterr().err
