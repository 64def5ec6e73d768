"""What the tour shows, in order, and how a stop is run."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from research.spec import InputError

BUDGETS = ("2K", "6K", "20K")
CHOSEN, FORETOLD = "6K", "60K"
MODEL = f"sp500-threshold-1pct-{CHOSEN}-h1"
OF_MAKE = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL")
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Stop:
    """One command and why it is given."""

    title: str
    why: str
    command: tuple[str, ...]
    check: Callable[[Path], str] | None = None
    """What must hold while the command runs; it then serves until it is told to end. Gets the store, returns a sentence."""


def stops(store: Path, port: int) -> list[Stop]:
    """From an empty store to a served prediction and a report."""
    search = ("TRIALS=4", "EPOCHS=4")
    final = (f"BUDGET={CHOSEN}", "HORIZON=1")
    named = f"MODEL={MODEL}"

    def stop(title: str, why: str, verb: str, *values: str, check: Callable[[Path], str] | None = None) -> Stop:
        return Stop(title=title, why=why, command=("make", verb, *values, f"STORE={store}"), check=check)

    def served(store: Path) -> str:
        from pipelines.tour_answer import agreement

        return agreement(store, MODEL, port)

    return [
        stop("plan", "What would a sweep take on this machine? Nothing is trained.", "plan", f"BUDGET={CHOSEN}", *search),
        stop(
            "study",
            "Three parameter budgets, four architectures each, every trial a nested MLflow run beside four baselines.",
            "study",
            f"BUDGETS={','.join(BUDGETS)}",
            "HORIZONS=1",
            "REPLICATES=2",
            *search,
        ),
        stop("leaderboard", "Which architecture was best at each budget, and how sure is that?", "leaderboard"),
        stop("scaling", "Does loss fall with size, beyond the noise?", "scaling"),
        stop("compare", "Is a transformer better than logistic regression?", "compare", f"A={CHOSEN}", "B=logistic"),
        stop("forecast", "What will a larger budget reach? Sealed before it is tried.", "forecast", f"BUDGET={FORETOLD}"),
        stop("sweep", "The larger budget, by the command that does most of the work.", "sweep", f"BUDGET={FORETOLD}", *search),
        stop("how the forecast did", "Sealed forecasts beside what was found.", "forecast"),
        stop(
            "train",
            "The best trial again, on training and validation days, over fresh seeds.",
            "train",
            *final,
            "SEEDS=2",
        ),
        stop("evaluate", "The test days are opened, once.", "evaluate", *final),
        stop(
            "promote",
            "Gates say what speaks against its use; tiny models fail, hence FORCE.",
            "promote",
            *final,
            "FORCE=1",
        ),
        stop("backtest", "What acting on these probabilities would have earned, after costs.", "backtest", *final),
        stop("predict", "The newest probabilities; the bundled bars end in 2018, hence STALE_OK.", "predict", "STALE_OK=1"),
        stop(
            "serve",
            "The model over HTTP: raw bars in, probabilities out.",
            "serve",
            named,
            f"PORT={port}",
            check=served,
        ),
        stop("report", "One page of all that the store says.", "report"),
    ]


def run_stop(stop: Stop, folder: Path) -> None:
    """Run its command to the end; `InputError` says which stop failed and where the store is."""
    # What `make tour` itself was told is not for the verbs it runs.
    clean = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    command = ["make", "--no-print-directory", *stop.command[1:]]
    if stop.check:
        _serve(command, clean, stop.check, folder)
        return
    ended = subprocess.run(command, cwd=ROOT, env=clean, check=False)
    if ended.returncode:
        raise InputError(f"tour: {stop.title} failed ({ended.returncode}); its message is above, the store is in {folder}.")


def _serve(command: list[str], environment: dict[str, str], check: Callable[[Path], str], folder: Path) -> None:
    # A group of its own: make passes no signal on to what it started.
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True) as server:
        try:
            print(check(folder / "mlruns"), flush=True)
        finally:
            os.killpg(server.pid, signal.SIGINT)
