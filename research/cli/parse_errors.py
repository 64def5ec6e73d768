"""What a user is told who gives a flag or a value that is not taken: one sentence with the fix."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from tyro import _errors

from research.errors import InputError

if TYPE_CHECKING:
    from tyro._arguments import ArgumentDefinition

MAKE_NAMES = {"add_trials": "TRIALS", "base_width": "WIDTH_TRANSFER", "models": "A, B"}
"""Variables of `make` that are not called as their flag."""
KINDS = {
    "INT": ("a whole number", "whole numbers"),
    "FLOAT": ("a number", "numbers"),
    "YYYY-MM-DD": ("a date such as 2011-12-31", "dates such as 2011-12-31"),
    "PATH": ("a path", "paths"),
}
"""What tyro calls a type -> what we call one and several of it."""


def input_error_hook(options_type: type[Any], arguments: Sequence[str]) -> Callable[[_errors.ParseErrorEvent], None]:
    """A hook for tyro's parser that raises `InputError`; what it does not know keeps tyro's own words."""

    def refuse(event: _errors.ParseErrorEvent) -> None:
        if isinstance(event, _errors.UnrecognizedArgs):
            raise InputError(_unknown(event.tokens, options_type))
        argument: ArgumentDefinition | None = getattr(event, "argument", None)
        if argument is not None:
            name = argument.field.intern_name
            given = getattr(event, "value", None) or _given("--" + name.replace("_", "-"), arguments)
            raise InputError(f"{MAKE_NAMES.get(name, name.upper())}={given}: {_fix(argument)}")

    return refuse


def _unknown(tokens: Sequence[str], options_type: type[Any]) -> str:
    flags = ["--" + one.name.replace("_", "-") for one in fields(options_type)]
    flag = next((token for token in tokens if token.startswith("--")), None)
    if flag is None:
        return f"{' '.join(tokens)}: stands behind no flag that takes it; --help (make: HELP=1) lists them."
    flag = flag.split("=")[0]
    near = get_close_matches(flag, flags, n=1, cutoff=0.6)
    return f"{flag}: no such flag; " + (f"did you mean {near[0]}?" if near else "--help (make: HELP=1) lists them.")


def _given(flag: str, arguments: Sequence[str]) -> str:
    """What stands behind the flag, commas between, as for `make`."""
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
    """What the argument takes, from the way that tyro's help writes it: `{None}|INT`, `[INT [INT ...]]`, `{a,b}`."""
    written = (argument.lowered.metavar or "").replace("{None}|", "")
    if argument.lowered.choices:
        return f"give {_either(argument.lowered.choices)}."
    kinds = re.findall(r"INT|FLOAT|YYYY-MM-DD|PATH", written)
    if not kinds:
        return "give a value."
    one, many = KINDS[kinds[0]]
    if "..." in written:
        return f"give {many} (commas between them for make, spaces behind the flag)."
    return f"give {one}." if len(kinds) == 1 else f"give {len(kinds)} {many}."


def _either(choices: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
