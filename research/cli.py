"""How every verb starts: parse options, run, and turn a user's mistake into one sentence."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

Options = TypeVar("Options")

MISTAKE = 2
INTERRUPTED = 130


def run(main: Callable[[Options], None], options_type: type[Options]) -> None:
    """Run a verb's `main` with options from the command line.

    A user's mistake (`InputError`) is printed as one sentence, exit code 2; Ctrl-C and a polite kill end
    with 130 after `main` has put the store in order. Anything else is our mistake and shows its traceback.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # Idle OpenMP threads that spin take half the speed of whatever else runs; torch reads this when it loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        main(_parsed(options_type))
    except ValueError as problem:
        # Loaded only now: `--help` and a verb that succeeds need not wait for it here.
        from research.spec import InputError

        if not isinstance(problem, InputError):
            raise
        print(f"error: {problem}", file=sys.stderr)
        raise SystemExit(MISTAKE) from None
    except KeyboardInterrupt:
        print("interrupted; what had finished is in the store: see make leaderboard.", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _parsed(options_type: type[Options]) -> Options:
    # tyro's type checker would look through every installed package for plug-ins of its own.
    os.environ.setdefault("TYPEGUARD_DISABLE_PLUGIN_AUTOLOAD", "1")
    import tyro

    return tyro.cli(options_type)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
