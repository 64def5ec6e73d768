"""What the tour shows, in order, and how a stop is run."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from research.spec import InputError

BUDGETS, CHOSEN, FORETOLD = "2K,6K,20K", "6K", "60K"
SEARCH = "TRIALS=4 EPOCHS=4"
FINAL = f"BUDGET={CHOSEN} HORIZON=1"
MODEL = f"sp500-threshold-1pct-{CHOSEN}-h1"
OF_MAKE = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL")
ROOT = Path(__file__).parents[1]

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


@dataclass(frozen=True, kw_only=True)
class Stop:
    """One command and why it is given."""

    title: str
    why: str
    command: tuple[str, ...]
    check: Callable[[Path], str] | None = None
    """Of a command that serves until it is told to end: what must hold meanwhile. Gets the store, returns a sentence."""


def stops(store: Path, port: int) -> list[Stop]:
    """From an empty store to a served prediction and a report."""
    return [_stop(title, why, command.split(), store, port) for title, why, command in STOPS]


def _stop(title: str, why: str, command: list[str], store: Path, port: int) -> Stop:
    check: Callable[[Path], str] | None = None
    if title == "serve":
        from pipelines.tour_answer import agreement

        command, check = [*command, f"PORT={port}"], partial(agreement, model=MODEL, port=port)
    return Stop(title=title, why=why, command=("make", *command, f"STORE={store}"), check=check)


def run_stop(stop: Stop, store: Path) -> None:
    """Run its command to the end; `InputError` says which stop failed and where the store is."""
    # What `make tour` itself was told is not for the verbs it runs.
    clean = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    command = ["make", "--no-print-directory", *stop.command[1:]]
    if stop.check:
        _serve(command, clean, stop.check, store)
        return
    ended = subprocess.run(command, cwd=ROOT, env=clean, check=False)
    if ended.returncode:
        raise InputError(f"tour: {stop.title} failed ({ended.returncode}); its message is above, the store is {store}.")


def _serve(command: list[str], environment: dict[str, str], check: Callable[[Path], str], store: Path) -> None:
    # A group of its own: make passes no signal on to what it started.
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True) as server:
        try:
            print(check(store), flush=True)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
