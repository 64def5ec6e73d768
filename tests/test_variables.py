"""Each verb takes the variables that its options have, and refuses every other one with the nearest name."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from research.cli.run import parsed
from research.cli.variables import as_flags, variables_of
from research.errors import InputError
from tests.support.verbs import NAMES, ROOT, options_of

MAKEFILE = (ROOT / "Makefile").read_text()
every_verb = pytest.mark.parametrize("verb", NAMES)


def made(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return what `make` would run, without the environment's own rule."""
    command = [str(shutil.which("make")), "-n", "-o", ".venv/.installed", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment})


def flags(verb: str, *words: str) -> list[str]:
    """Return the flags that the verb receives from `make VERB words`."""
    ran = made(verb, *words)
    assert ran.returncode == 0, ran.stderr
    _, start, _, _, _, name, *typed = shlex.split(ran.stdout)
    assert start == "exec", "a signal to make would end a shell and leave the verb running"
    assert name == verb
    return as_flags(typed, options_of(verb), verb)


def test_the_makefile_has_every_verb() -> None:
    listed = re.search(r"^VERBS := (.*?[^\\])$", MAKEFILE, re.MULTILINE | re.DOTALL)
    assert listed is not None
    assert sorted(listed[1].replace("\\\n", " ").split()) == NAMES


@every_verb
def test_every_variable_of_a_verb_reaches_its_options(verb: str) -> None:
    known = [name for name in variables_of(options_of(verb)) if name not in ("ARGS", "HELP")]
    given = as_flags([f"{name}=1" for name in known], options_of(verb), verb)
    for name in known:
        without = as_flags([f"{other}=1" for other in known if other != name], options_of(verb), verb)
        assert without != given, f"make {verb} only seems to take {name}"


@every_verb
def test_a_verb_refuses_a_variable_that_it_does_not_take(verb: str) -> None:
    with pytest.raises(InputError) as mistake:
        as_flags(["HORIZNS=3"], options_of(verb), verb)
    sentence = str(mistake.value)
    assert sentence.startswith(f"HORIZNS: {verb} does not take it; ")
    assert f"make {verb} HELP=1" in sentence
    assert ("did you mean HORIZON" in sentence) == ("HORIZON" in " ".join(variables_of(options_of(verb))))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("train HORIZONS=3", "HORIZONS: train does not take it; did you mean HORIZON?"),
        ("train seed=3", "seed: train does not take it; did you mean SEEDS?"),
        ("ui BUDGET=2K", "BUDGET: ui does not take it; make ui HELP=1 lists what it takes."),
        ("sweep STUDY=x", "STUDY: sweep does not take it; make sweep HELP=1 lists what it takes."),
    ],
)
def test_the_refusal_names_verb_variable_and_fix(words: str, sentence: str) -> None:
    verb, word = words.split()
    with pytest.raises(InputError) as mistake:
        as_flags([word], options_of(verb), verb)
    assert str(mistake.value).startswith(sentence)


@pytest.mark.parametrize("words", ["lint STORE=x", "HORIZON=3", "test TRIALS=3", "lint HELP=1", "setup BUDGET=2K"])
def test_a_target_of_make_alone_refuses_variables(words: str) -> None:
    ran = made(*words.split())
    assert (ran.returncode, ran.stdout) == (2, "")
    variable = words.split()[-1].partition("=")[0]
    assert f"{variable}: make {words.split()[0] if ' ' in words else 'help'} does not take it; name a verb" in ran.stderr


@pytest.mark.parametrize(("value", "flag"), [("0", "--no-again"), ("no", "--no-again"), ("1", "--again"), ("yes", "--again")])
def test_a_switch_is_on_or_off(value: str, flag: str) -> None:
    assert flag in flags("evaluate", f"AGAIN={value}")


def test_a_switch_takes_no_other_value() -> None:
    with pytest.raises(InputError, match=r"FORCE=maybe: give 1 or 0\."):
        as_flags(["FORCE=maybe"], options_of("promote"), "promote")


@pytest.mark.parametrize("odd", ["my store", "it's", "a$b", "a#b", "b=c d", "+10", "[red]", 'say "x"'])
def test_an_odd_value_arrives_as_it_was_typed(odd: str) -> None:
    assert flags("ui", f"STORE={odd}") == [f"--store={odd}"]


def test_flags_are_passed_on() -> None:
    assert flags("ui", "ARGS=--port 5002", "STORE=x") == ["--port", "5002", "--store=x"]


def test_lists_trials_and_models_have_their_forms() -> None:
    options = parsed(options_of("sweep"), ["LAYERS=1,2", "TRIALS=+10", "WIDTH_TRANSFER=64"], "sweep")
    assert (options.layers, options.add_trials, options.base_width) == ((1, 2), 10, 64)  # type: ignore[attr-defined]
    options = parsed(options_of("compare"), ["A=20K", "B=logistic", "STORE=x"], "compare")
    assert options.models == ("20K", "logistic")  # type: ignore[attr-defined]
    options = parsed(options_of("adopt"), ["PATHS=a.log b/c.csv"], "adopt")
    assert [str(path) for path in options.paths] == ["a.log", "b/c.csv"]  # type: ignore[attr-defined]


def test_words_and_flags_set_the_same_options() -> None:
    by_words = parsed(options_of("sweep"), ["BUDGET=20K", "HORIZON=3", "HEADS=2,4"], "sweep")
    by_flags = parsed(options_of("sweep"), ["--budget", "20K", "--horizon", "3", "--heads", "2", "4"], "sweep")
    assert by_words == by_flags


def test_of_several_verbs_each_takes_its_own_variables(tmp_path: Path) -> None:
    words = ["rollback", "leaderboard", "MODEL=sp500", "ADOPTED=1", f"STORE={tmp_path / 'none'}"]
    environment = {**os.environ, "TAPESCALE_VERBS": "rollback leaderboard"}
    for verb in words[:2]:
        command = [sys.executable, "-m", "tapescale", verb, *words[2:]]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
        assert "does not take it" not in ran.stderr
        refused = subprocess.run([*command, "EPOCHS=3"], cwd=ROOT, capture_output=True, text=True, env=environment)
        assert (refused.returncode, f"EPOCHS: {verb} does not take it" in refused.stderr) == (2, True)
    ran = made(*words)
    assert ran.stdout.count("TAPESCALE_VERBS='rollback leaderboard'") == 2


@pytest.mark.parametrize("name", ["COLUMNS", "NAME", "LOG"])
def test_variables_that_a_system_exports_by_itself_are_no_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKELEVEL", "1")
    monkeypatch.setenv(name, "120")
    assert as_flags([], options_of("data"), "data") == []
    assert as_flags([], options_of("report"), "report") == []


def test_make_takes_settings_from_the_environment_and_the_command_alone_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHS", "2")
    assert as_flags([], options_of("sweep"), "sweep") == []
    monkeypatch.setenv("MAKELEVEL", "1")
    assert as_flags([], options_of("sweep"), "sweep") == ["--epochs=2"]
    assert as_flags(["EPOCHS=5"], options_of("sweep"), "sweep") == ["--epochs=5"]
    # A verb without it is not concerned.
    assert as_flags([], options_of("ui"), "ui") == []
    monkeypatch.setenv("MODEL", "sp500")
    assert as_flags([], options_of("rollback"), "rollback") == ["--model=sp500"]


def test_what_a_recipe_starts_has_flags_of_its_own() -> None:
    """`make test-slow ARGS=-rs` runs tests that run make."""
    rule = "probe: ; @echo \"ARGS is '$$ARGS'\""
    command = ["make", f"--eval={rule}", "probe", "ARGS=-rs"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "ARGS is ''\n"


@pytest.mark.parametrize("own", ["SHELL=/bin/sh", "MAKEFLAGS=-s"])
def test_the_variables_of_make_itself_are_left_to_it(own: str) -> None:
    assert flags("ui", own) == []


def test_help_lists_the_variables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(options_of("rollback"), ["HELP=1"], "rollback")
    assert "variables of make rollback: MODEL STORE ARGS HELP" in capsys.readouterr().out
