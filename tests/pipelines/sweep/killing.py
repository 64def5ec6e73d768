"""Starts one sweep again and again and kills it, or one of its workers, at random moments, until it has had enough kills.

Everything is imported once and every start is a fork of this process: a kill then costs a second, not ten.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import psutil
from rich.console import Console

from pipelines.options import SweepOptions
from pipelines.sweep.driver import run_sweep

LONGEST_LIFE = 2.6
"""Seconds: a start lives for a random part of this, so that kills fall before, into and after trials."""


def start(options: SweepOptions) -> int:
    """Fork a driver and return its process number."""
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    try:
        with (options.store / "driver.log").open("a") as log:
            run_sweep(options, Console(file=log, width=120))
    except BaseException as problem:
        print(f"driver failed: {problem!r}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def victim(pid: int, rng: random.Random) -> int:
    """The driver, or one of its processes."""
    try:
        workers = [child.pid for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        workers = []
    return rng.choice([pid, *workers])


def ended(pid: int, seconds: float) -> int | None:
    """Wait that long for a child; its exit code (minus the signal if it was killed), or None if it still runs."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def main(root: str, kills: int, seed: int, workers: int, trials: int, epochs: int) -> None:
    """Kill until `kills` are done, then let the sweep end; prints the number of kills."""
    rng = random.Random(seed)
    options = SweepOptions(
        budget="2K",
        trials=trials,
        epochs=epochs,
        device="cpu",
        threads=1,
        workers=workers,
        attempts=10_000,
        store=Path(root),
    )
    # Workers take some seconds to start; a driver with workers lives longer, or nothing would ever be trained.
    life = LONGEST_LIFE if workers == 1 else 8 * LONGEST_LIFE
    done, pid = 0, start(options)
    while True:
        code = ended(pid, rng.uniform(0.05, life) if done < kills else 300.0)
        if code == 0:
            break
        if code is not None and code > 0:
            sys.exit(f"the driver ended by itself with exit code {code}")
        if code is None:
            assert done < kills, "the sweep did not end"
            hit = victim(pid, rng)
            os.kill(hit, signal.SIGKILL)
            done += 1
            if hit != pid:
                continue
            os.waitpid(pid, 0)
        pid = start(options)
    print(done)


if __name__ == "__main__":
    main(sys.argv[1], *(int(value) for value in sys.argv[2:]))
