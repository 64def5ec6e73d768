"""How every verb starts: parse options, run, and turn a user's mistake into one sentence."""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

Options = TypeVar("Options")

MISTAKE = 2
INTERRUPTED = 130
GOES_ON = "; what had finished is in the store, and the same command goes on from there"
CUT_OFF = 141
"""What a shell says of a program that a closed pipe has ended."""
EXAMPLES = "examples:"
"""Line of an options class's docstring below which each line is a command."""


def run(main: Callable[[Options], None], options_type: type[Options], *, resumes: bool = False) -> None:
    """Run a verb's `main` with options from the command line.

    A user's mistake (`InputError`) is printed as one sentence, exit code 2; Ctrl-C and a polite kill end
    with 130 after `main` has put the store in order. A verb that `resumes` goes on where it was stopped, and says so.
    Anything else is our mistake and shows its traceback.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # Idle OpenMP threads that spin take half the speed of whatever else runs; torch reads this when it loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        main(parsed(options_type, sys.argv[1:], _verb()))
        sys.stdout.flush()
    except ValueError as problem:
        # Loaded only now: `--help` and a verb that succeeds need not wait for it here.
        from research.errors import InputError

        if not isinstance(problem, InputError):
            raise
        print(f"error: {problem}", file=sys.stderr)
        raise SystemExit(MISTAKE) from None
    except BrokenPipeError:
        # Whoever read our output, such as `head`, has enough of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(CUT_OFF) from None
    except KeyboardInterrupt:
        print(f"interrupted{GOES_ON if resumes else ''}.", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def parsed(options_type: type[Options], arguments: Sequence[str], verb: str) -> Options:
    """Options from a command line; what the parser refuses is an `InputError`."""
    # tyro's type checker would look through every installed package for plug-ins of its own.
    os.environ.setdefault("TYPEGUARD_DISABLE_PLUGIN_AUTOLOAD", "1")
    import tyro

    with _in_our_words(options_type, arguments):
        return tyro.cli(options_type, args=arguments, prog=f"python -m {verb}", description=description(options_type))


def _in_our_words(options_type: type[object], arguments: Sequence[str]) -> AbstractContextManager[None]:
    try:
        from tyro._errors import on_parse_error

        from research.cli.parse_errors import input_error_hook
    except ImportError:
        # These parts of tyro are its own affair: a version without them refuses in its own words.
        return nullcontext()
    return on_parse_error(input_error_hook(options_type, arguments))


def description(options_type: type[object]) -> str:
    """The paragraphs of a verb's help and its examples, each on a line: the docstring of its options."""
    paragraphs, _, lines = inspect.cleandoc(options_type.__doc__ or "").partition(f"{EXAMPLES}\n")
    told = "\n\n".join(" ".join(one.split()) for one in paragraphs.strip().split("\n\n"))
    return f"{told}\n\n{EXAMPLES}\n{lines.rstrip()}" if lines else told


def _verb() -> str:
    """Module that was started with `python -m`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).stem


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
