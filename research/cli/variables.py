"""Options as variables: `BUDGET=20K` is `--budget 20K`."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import Field, fields
from difflib import get_close_matches
from typing import Any, get_type_hints

from research.errors import InputError

WORD = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
OTHER_NAMES = {"base_width": "WIDTH_TRANSFER"}
"""Fields whose variable has another name."""
POSITIONAL = {"models": ("A", "B"), "paths": ("PATHS",)}
"""Positional fields and the variables that fill them."""
ADDED_TRIALS = "add_trials"
"""Field of `TRIALS=+10`: ten more trials."""
EVERY_VERB = ("ARGS", "HELP")
"""Variables of every verb: further flags, and the help of the verb."""
NOT_FROM_ENVIRONMENT = (*EVERY_VERB, "COLUMNS", "NAME", "LOG", "UI", "VERSION", "ALL", "D", "N")
"""Variables that `make` takes from the command line alone: shells and systems export names such as COLUMNS by themselves."""
YES, NO = ("1", "yes", "true"), ("0", "no", "false")


def variables_of(options_type: type[Any]) -> list[str]:
    """Return the variables that a verb with these options takes."""
    names: list[str] = []
    for field in fields(options_type):
        if field.name != ADDED_TRIALS:
            names += POSITIONAL.get(field.name, (variable_of(field.name),))
    return [*names, *EVERY_VERB]


def variable_of(name: str) -> str:
    """Return the variable that sets a field."""
    return "TRIALS" if name == ADDED_TRIALS else OTHER_NAMES.get(name, name.upper())


def as_flags(words: Sequence[str], options_type: type[Any], verb: str) -> list[str]:
    """Return the words of a command line as flags; words that are no `VARIABLE=value` stay as they are.

    Raises `InputError` for a variable that the verb does not take. Under `make` variables of the environment count too.
    """
    known = variables_of(options_type)
    matches = [WORD.fullmatch(word) for word in words]
    typed = {match[1]: match[2] for match in matches if match}
    for name in typed:
        if name not in known:
            raise InputError(f"{name}: {verb} does not take it; {_nearest(name, known, verb)}")
    if "MAKELEVEL" in os.environ:
        settings = set(known) - set(NOT_FROM_ENVIRONMENT)
        typed = {name: os.environ[name] for name in known if name in settings and name in os.environ} | typed
    flags = [word for word, match in zip(words, matches, strict=True) if match is None]
    if typed.pop("HELP", "0").lower() in YES:
        return ["--help"]
    arguments = shlex.split(typed.pop("ARGS", ""))
    positional: list[str] = []
    types = get_type_hints(options_type)
    for field in fields(options_type):
        if field.name in POSITIONAL:
            for variable in POSITIONAL[field.name]:
                positional += (
                    typed.get(variable, "").split() if variable == "PATHS" else filter(None, [typed.get(variable, "")])
                )
        elif field.name != ADDED_TRIALS and (value := typed.get(variable_of(field.name), "")):
            arguments += _flag(field, types[field.name], value)
    # Positional words come first: a flag that takes a list would swallow them.
    return [*positional, *flags, *arguments]


def _flag(field: Field[Any], annotation: Any, value: str) -> list[str]:
    flag = f"--{field.name.replace('_', '-')}"
    if field.name == "trials" and value.startswith("+"):
        return [f"--{ADDED_TRIALS.replace('_', '-')}", value.removeprefix("+")]
    if annotation is bool:
        if value.lower() not in (*YES, *NO):
            raise InputError(f"{variable_of(field.name)}={value}: give 1 or 0.")
        return [flag if value.lower() in YES else flag.replace("--", "--no-", 1)]
    if getattr(annotation, "__origin__", None) is tuple:
        return [flag, *value.split(",")]
    return [f"{flag}={value}"]


def _nearest(name: str, known: Sequence[str], verb: str) -> str:
    near = get_close_matches(name.upper(), known, n=1, cutoff=0.6)
    hint = f"make {verb} HELP=1 lists what it takes."
    return f"did you mean {near[0]}? {hint}" if near else hint
