"""What the tour shows, in order, and how a stop is run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from research.errors import InputError

BUDGETS, CHOSEN, FORETOLD = "2K,6K,20K", "6K", "60K"
SEARCH = "TRIALS=4 EPOCHS=4"
FINAL = f"BUDGET={CHOSEN} HORIZON=1"
MODEL = f"sp500-threshold-1pct-{CHOSEN}-h1"
OF_MAKE = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL")
ROOT = Path(__file__).parents[2]
PATIENCE_AT_END_SECONDS = 10.0
"""How long a server that ends may still speak."""

STOPS = (
    ("doctor", "Are machine, packages and store in order?", "doctor"),
    ("plan", "What would a sweep take here? Nothing is trained.", f"plan BUDGET={CHOSEN} {SEARCH}"),
    (
        "study",
        "Three parameter budgets, four architectures each, every trial a nested MLflow run beside four baselines.",
        f"study BUDGETS={BUDGETS} HORIZONS=1 REPLICATES=2 {SEARCH}",
    ),
    ("leaderboard", "Which architecture was best at each budget, and how sure is that?", "leaderboard"),
    ("scaling", "Does loss fall with size, beyond the noise?", "scaling"),
    ("compare", "Is a transformer better than logistic regression?", f"compare A={CHOSEN} B=logistic"),
    ("forecast", "What will a larger budget reach? Sealed before it is tried.", f"forecast BUDGET={FORETOLD}"),
    ("sweep", "The larger budget, by the command that does most of the work.", f"sweep BUDGET={FORETOLD} {SEARCH}"),
    ("how the forecast did", "Sealed forecasts beside what was found.", "forecast"),
    ("train", "The best trial again, on training and validation days, over fresh seeds.", f"train {FINAL} SEEDS=2"),
    ("evaluate", "The test days are opened, once. In your own store: when nothing is left to choose.", f"evaluate {FINAL}"),
    ("promote", "Gates say what speaks against its use; tiny models fail, hence FORCE.", f"promote {FINAL} FORCE=1"),
    ("backtest", "What acting on these probabilities would have earned, after costs.", f"backtest {FINAL}"),
    ("predict", "The newest probabilities; the bundled bars end in 2018, hence STALE_OK.", "predict STALE_OK=1"),
    ("serve", "The model over HTTP: raw bars in, probabilities out.", f"serve MODEL={MODEL}"),
    ("report", "One page of all that the store says.", "report"),
)
"""Title, why, and the command behind `make`."""


Alive = Callable[[], None]
"""Raises `InputError` with a server's last words once it has ended by itself."""
Check = Callable[[Path, Alive], str]
"""(store, of its server) -> a sentence."""


@dataclass(frozen=True, kw_only=True)
class TourStep:
    """One command and why it is given."""

    title: str
    why: str
    command: tuple[str, ...]
    check: Check | None = None
    """Of a command that serves until it is told to end: what must hold meanwhile."""


def stops(store: Path, port: int) -> list[TourStep]:
    """From an empty store to a served prediction and a report."""
    return [_stop(title, why, command.split(), store, port) for title, why, command in STOPS]


def _stop(title: str, why: str, command: list[str], store: Path, port: int) -> TourStep:
    check: Check | None = None
    if title == "serve":
        from pipelines.checks.tour_serving_check import agreement

        command, check = [*command, f"PORT={port}"], partial(agreement, model=MODEL, port=port)
    return TourStep(title=title, why=why, command=("make", *command, f"STORE={store}"), check=check)


def run_stop(stop: TourStep, store: Path) -> None:
    """Run its command to the end; `InputError` says which stop failed and where the store is."""
    # What `make tour` itself was told is not for the verbs it runs.
    clean = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    in_checkout = (ROOT / "Makefile").exists()
    command = ["make", "--no-print-directory"] if in_checkout else [sys.executable, "-m", "tapescale"]
    command += stop.command[1:]
    if stop.check:
        _serve(command, ROOT if in_checkout else None, clean, stop.check, store)
        return
    ended = subprocess.run(command, cwd=ROOT if in_checkout else None, env=clean, check=False)
    if ended.returncode:
        raise InputError(f"tour: {stop.title} failed ({ended.returncode}); its message is above, the store is {store}.")


def _serve(command: list[str], folder: Path | None, environment: dict[str, str], check: Check, store: Path) -> None:
    # A group of its own: make passes no signal on to what it started.
    with subprocess.Popen(
        command, cwd=folder, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as server:
        said: deque[str] = deque(maxlen=20)
        listener = threading.Thread(target=_listen, args=(server, said), daemon=True)
        listener.start()
        try:
            print(check(store, partial(_require_alive, server, said, listener)), flush=True)
        finally:
            # A server that has ended may have left no group.
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            listener.join(PATIENCE_AT_END_SECONDS)


def _listen(server: subprocess.Popen[str], said: deque[str]) -> None:
    """Show what a server says, and keep the end of it."""
    assert server.stderr is not None
    for line in server.stderr:
        print(line, end="", file=sys.stderr, flush=True)
        said.append(line.strip())


def _require_alive(server: subprocess.Popen[str], said: deque[str], listener: threading.Thread) -> None:
    if server.poll() is None:
        return
    listener.join(PATIENCE_AT_END_SECONDS)
    # make has the last line for itself.
    words = [line for line in said if line and not line.startswith(("make:", "make["))]
    told = words[-1] if words else "it said nothing"
    raise InputError(f"tour: the server ended by itself ({server.returncode}): {told}")
