"""Mistakes on the command line as one sentence each, with the fix."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from tyro import _errors

from research.cli.variables import variable_of
from research.errors import InputError

if TYPE_CHECKING:
    from tyro._arguments import ArgumentDefinition

KINDS = {
    "INT": ("a whole number", "whole numbers"),
    "FLOAT": ("a number", "numbers"),
    "YYYY-MM-DD": ("a date such as 2011-12-31", "dates such as 2011-12-31"),
    "PATH": ("a path", "paths"),
}
"""Metavariable of tyro -> its name in a sentence, singular and plural."""


def input_error_hook(options_type: type[Any], arguments: Sequence[str]) -> Callable[[_errors.ParseErrorEvent], None]:
    """Return a hook for tyro's parser that raises `InputError`; unknown events keep tyro's own words."""

    def refuse(event: _errors.ParseErrorEvent) -> None:
        if isinstance(event, _errors.UnrecognizedArgs):
            raise InputError(_unknown(event.tokens, options_type))
        argument: ArgumentDefinition | None = getattr(event, "argument", None)
        if argument is not None:
            name = argument.field.intern_name
            given = getattr(event, "value", None) or _given("--" + name.replace("_", "-"), arguments)
            raise InputError(f"{variable_of(name)}={given}: {_fix(argument)}")

    return refuse


def _unknown(tokens: Sequence[str], options_type: type[Any]) -> str:
    flags = ["--" + field.name.replace("_", "-") for field in fields(options_type)]
    flag = next((token for token in tokens if token.startswith("--")), None)
    if flag is None:
        return f"unexpected argument {' '.join(tokens)}; --help (make: HELP=1) lists the flags."
    flag = flag.split("=")[0]
    near = get_close_matches(flag, flags, n=1, cutoff=0.6)
    return f"{flag}: no such flag; " + (f"did you mean {near[0]}?" if near else "--help (make: HELP=1) lists the flags.")


def _given(flag: str, arguments: Sequence[str]) -> str:
    """Return the values of a flag with commas between them, as a variable has them."""
    values: list[str] = []
    inside = False
    for token in arguments:
        if token.startswith("--"):
            inside = token.split("=")[0].replace("_", "-") == flag
            values += [token.split("=", 1)[1]] if inside and "=" in token else []
        elif inside:
            values.append(token)
    return ",".join(values)


def _fix(argument: ArgumentDefinition) -> str:
    """Return what the argument takes, read from tyro's help: `{None}|INT`, `[INT [INT ...]]`, `{a,b}`."""
    written = (argument.lowered.metavar or "").replace("{None}|", "")
    if argument.lowered.choices:
        return f"give {_either(argument.lowered.choices)}."
    kinds = re.findall(r"INT|FLOAT|YYYY-MM-DD|PATH", written)
    if not kinds:
        return "give a value."
    singular, plural = KINDS[kinds[0]]
    if "..." in written:
        return f"give {plural} (commas between them in a variable, spaces after a flag)."
    return f"give {singular}." if len(kinds) == 1 else f"give {len(kinds)} {plural}."


def _either(choices: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
