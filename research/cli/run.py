"""How every verb starts: parse its options, run it, and print a user's mistake as one sentence."""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, get_type_hints

Options = TypeVar("Options")

MISTAKE = 2
INTERRUPTED = 130
RESUME_HINT = "; finished work is in the store, and the same command continues from there"
CUT_OFF = 141
"""Exit code that a shell reports for a program ended by a closed pipe."""
EXAMPLES = "examples:"
"""Line of an options class's docstring below which each line is a command."""


def run(main: Callable[[Any], None], words: Sequence[str], verb: str, *, resumes: bool = False) -> None:
    """Run a verb's `main` with the options that `words` set.

    A user's mistake (`InputError`) is printed as one sentence, exit code 2. Ctrl-C and SIGTERM end with 130, after `main` has
    put the store in order; a verb that `resumes` prints how to continue. Any other error is a bug and keeps its traceback.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # Idle OpenMP threads that spin halve the speed of other processes; torch reads this when it loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        main(parsed(options_of(main), words, verb))
        sys.stdout.flush()
    except ValueError as error:
        # Loaded only now: `--help` and a verb that succeeds need not wait for it here.
        from research.cli.next_steps import as_installed
        from research.errors import InputError

        if not isinstance(error, InputError):
            raise
        print(f"error: {as_installed(str(error))}", file=sys.stderr)
        raise SystemExit(MISTAKE) from None
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(CUT_OFF) from None
    except KeyboardInterrupt:
        print(f"interrupted{RESUME_HINT if resumes else ''}.", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def options_of(main: Callable[[Any], None]) -> type[Any]:
    """Return the options class of a verb: the annotation of the only parameter of its `main`."""
    (parameter,) = inspect.signature(main).parameters
    options_type: type[Any] = get_type_hints(main)[parameter]
    return options_type


def parsed(options_type: type[Options], words: Sequence[str], verb: str) -> Options:
    """Return the options that the words set, `VARIABLE=value` or `--flag value`.

    Raises `InputError` for a word that the verb does not take.
    """
    # tyro's type checker would search every installed package for plug-ins of its own.
    os.environ.setdefault("TYPEGUARD_DISABLE_PLUGIN_AUTOLOAD", "1")
    import tyro

    from research.cli.variables import as_flags

    arguments = as_flags(words, options_type, verb)
    with _input_errors(options_type, arguments):
        return tyro.cli(options_type, args=arguments, prog=f"tapescale {verb}", description=description(options_type, verb))


def _input_errors(options_type: type[object], arguments: Sequence[str]) -> AbstractContextManager[None]:
    try:
        from tyro._errors import on_parse_error

        from research.cli.parse_errors import input_error_hook
    except ImportError:
        # A version of tyro without this internal module reports mistakes in its own words.
        return nullcontext()
    return on_parse_error(input_error_hook(options_type, arguments))


def description(options_type: type[object], verb: str = "") -> str:
    """Return the help of a verb from the docstring of its options: paragraphs, variables, and one example per line."""
    from research.cli.variables import variables_of

    paragraphs, _, lines = inspect.cleandoc(options_type.__doc__ or "").partition(f"{EXAMPLES}\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs.strip().split("\n\n"))
    if verb:
        text += f"\n\nvariables of make {verb}: {' '.join(variables_of(options_type))}"
    return f"{text}\n\n{EXAMPLES}\n{lines.rstrip()}" if lines else text


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
