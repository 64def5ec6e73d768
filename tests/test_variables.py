"""Each verb takes the variables that its recipe reads, and refuses every other one in a sentence that says what to do."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import fields
from functools import cache

import pytest

from tests.support.verbs import MODULES, ROOT, options_of

VERBS = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
every_verb = pytest.mark.parametrize("verb", VERBS)


def made(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What `make` would run and say; the environment's own rule is told too, since that is what reads PYTHON."""
    command = [str(shutil.which("make")), "-n", "-W", "pyproject.toml", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment})


def recipe(*words: str) -> str:
    ran = made(*words)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.replace("\\\n", " ")


@cache
def read_by(verb: str) -> list[str]:
    """The variables of a verb, as its refusals and its help tell them."""
    command = ["awk", "-v", f"goals={verb}", "-f", "variables.awk", "Makefile"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


@every_verb
def test_a_verb_takes_what_changes_its_recipe_and_nothing_else(verb: str) -> None:
    plain, read = recipe(verb), [name for name in read_by(verb) if name != "HELP"]
    given = recipe(verb, *(f"{name}=zz{name}" for name in read))
    for name in read:
        # A switch such as FORCE=1 becomes a flag without its value.
        assert f"zz{name}" in given or recipe(verb, f"{name}=1") != plain, f"make {verb} only seems to read {name}"
    others = {name for other in VERBS for name in read_by(other)} - {*read, "HELP"}
    # An empty `refused` lets all pass: what would then be run does not know them.
    assert recipe(verb, "refused=", *(f"{name}=1" for name in others)) == plain


@every_verb
def test_a_flag_is_one_that_the_verb_has(verb: str) -> None:
    given = [f"{name}=1" for name in read_by(verb) if name not in ("HELP", "ARGS", "PYTHON")]
    last = shlex.split(recipe(verb, *given).splitlines()[-1])
    if "-m" not in last or (module := last[last.index("-m") + 1]) not in MODULES:
        return
    known = {one.name for one in fields(options_of(module))}
    assert {word[2:].replace("-", "_") for word in last if word.startswith("--")} <= known
    assert ("STORE" in read_by(verb)) == ("store" in known)


@every_verb
def test_a_verb_refuses_a_variable_that_it_does_not_read(verb: str) -> None:
    ran = made(verb, "HORIZNS=3")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"error: HORIZNS: make {verb} does not read it; " in ran.stderr
    told = f"make {verb} HELP=1 shows what it reads" if "HELP" in read_by(verb) else f"it reads {' '.join(read_by(verb))}"
    assert told in ran.stderr or verb == "help"
    assert ("did you mean HORIZON" in ran.stderr) == ("HORIZON" in " ".join(read_by(verb)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "train HORIZONS=3",
            "HORIZONS: make train does not read it; did you mean HORIZON? (make train HELP=1 shows what it reads)",
        ),
        ("train seed=3", "seed: make train does not read it; did you mean SEEDS? (make train HELP=1 shows what it reads)"),
        ("ui BUDGET=2K", "BUDGET: make ui does not read it; make ui HELP=1 shows what it reads"),
        ("sweep STUDY=x", "STUDY: make sweep does not read it; make sweep HELP=1 shows what it reads"),
        ("lint STORE=x", "STORE: make lint does not read it; it reads PYTHON"),
        ("HORIZON=3", "HORIZON: make help does not read it; name the verb that does, as in make sweep BUDGET=20K"),
        (
            "train evaluate TRIALS=3",
            "TRIALS: neither make train nor make evaluate reads it; make train HELP=1 shows what it reads",
        ),
        ("train lint HELP=1", "HELP=1: lint has no flags; `make` says what it does"),
    ],
)
def test_the_refusal_names_verb_variable_and_fix(words: str, said: str) -> None:
    ran = made(*words.split())
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.strip().endswith(f"error: {said}.  Stop.")


def test_of_several_verbs_each_variable_has_its_reader() -> None:
    told = recipe("train", "evaluate", "SEEDS=7", "AGAIN=1", "BUDGET=6K")
    assert "--seeds '7'" in told
    assert "--again" in told


@pytest.mark.parametrize("off", ["0", "no", "false"])
def test_a_switch_that_is_set_to_nothing_stays_off(off: str) -> None:
    assert "--again" not in recipe("evaluate", f"AGAIN={off}")
    assert "--again" in recipe("evaluate", "AGAIN=yes")


def test_what_is_odd_in_a_value_is_no_variable() -> None:
    assert "--note 'b=c d' --x=y" in recipe("ui", "ARGS=--note 'b=c d' --x=y", "PORT:=5002")


def test_what_a_recipe_starts_has_flags_of_its_own() -> None:
    """`make test-slow ARGS=-rs` runs tests that run make."""
    rule = "probe: ; @echo \"ARGS is '$$ARGS'\""
    ran = subprocess.run(["make", f"--eval={rule}", "probe", "ARGS=-rs"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "ARGS is ''\n"


@pytest.mark.parametrize("own", ["SHELL=/bin/sh", "MAKEFLAGS=-s"])
def test_the_variables_of_make_itself_are_left_to_it(own: str) -> None:
    assert "pipelines.serving.ui" in recipe("ui", own)


def test_help_says_which_variables_there_are() -> None:
    assert recipe("rollback", "HELP=1").startswith("make rollback reads: MODEL STORE ARGS HELP PYTHON\n")


def test_a_command_without_variables_starts_nothing_to_check_them() -> None:
    assert "pipelines.sweep.sweep" in made("sweep", PATH="/nowhere").stdout
    assert "awk" in made("sweep", "BUDGET=2K", PATH="/nowhere").stderr
