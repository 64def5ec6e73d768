"""Steps of the tour in order, and how each is run."""

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

BUDGETS, CHOSEN, FORECAST = "2K,6K,20K", "6K", "60K"
SEARCH = "TRIALS=4 EPOCHS=4"
FINAL = f"BUDGET={CHOSEN} HORIZON=1"
MODEL = f"sp500-threshold-1pct-{CHOSEN}-h1"
OF_MAKE = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL")
ROOT = Path(__file__).parents[2]
PATIENCE_AT_END_SECONDS = 10.0
"""How long to read the output of a server that ends."""

STOPS = (
    ("doctor", "Are machine, packages and store in order?", "doctor"),
    ("plan", "What would a sweep take here? Nothing is trained.", f"plan BUDGET={CHOSEN} {SEARCH}"),
    (
        "study",
        "Three parameter budgets, four architectures each, every trial a nested MLflow run, compared with four baselines.",
        f"study BUDGETS={BUDGETS} HORIZONS=1 REPLICATES=2 {SEARCH}",
    ),
    ("leaderboard", "Which architecture was best at each budget, and how sure is that?", "leaderboard"),
    ("scaling", "Does loss fall with size, beyond the noise?", "scaling"),
    ("compare", "Is a transformer better than logistic regression?", f"compare A={CHOSEN} B=logistic"),
    ("forecast", "What will a larger budget reach? Sealed before any trial.", f"forecast BUDGET={FORECAST}"),
    ("sweep", "The larger budget, by the command that does most of the work.", f"sweep BUDGET={FORECAST} {SEARCH}"),
    ("how the forecast did", "Sealed forecasts compared with the results.", "forecast"),
    ("train", "The best trial again, on training and validation days, over fresh seeds.", f"train {FINAL} SEEDS=2"),
    ("evaluate", "The test days are opened, once. In your own store: when nothing is left to choose.", f"evaluate {FINAL}"),
    ("promote", "Gates check the model before use; tiny models fail them, hence FORCE.", f"promote {FINAL} FORCE=1"),
    ("backtest", "What acting on these probabilities would have earned, after costs.", f"backtest {FINAL}"),
    ("predict", "The newest probabilities; the bundled bars end in 2018, hence STALE_OK.", "predict STALE_OK=1"),
    ("serve", "The model over HTTP: raw bars in, probabilities out.", f"serve MODEL={MODEL}"),
    ("report", "One page with all results of the store.", "report"),
)
"""Title, reason, and the arguments of `make`."""


Alive = Callable[[], None]
"""Raises `InputError` with the server's last line of output if the server has ended."""
Check = Callable[[Path, Alive], str]
"""Function of the store and the liveness test of the server that returns a sentence."""


@dataclass(frozen=True, kw_only=True)
class TourStep:
    """One command and its reason."""

    title: str
    why: str
    command: tuple[str, ...]
    check: Check | None = None
    """Test to run while the command serves; None for a command that ends by itself."""


def stops(store: Path, port: int) -> list[TourStep]:
    """Return the steps from an empty store to a served prediction and a report."""
    return [_stop(title, why, command.split(), store, port) for title, why, command in STOPS]


def _stop(title: str, why: str, command: list[str], store: Path, port: int) -> TourStep:
    check: Check | None = None
    if title == "serve":
        from pipelines.checks.tour_serving_check import agreement

        command, check = [*command, f"PORT={port}"], partial(agreement, model=MODEL, port=port)
    return TourStep(title=title, why=why, command=("make", *command, f"STORE={store}"), check=check)


def run_stop(stop: TourStep, store: Path) -> None:
    """Run the command to its end; raise `InputError` with the step and the store if the command fails."""
    # The variables of `make tour` must not reach the verbs that it runs.
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
    # A separate process group, because make does not forward signals to its children.
    with subprocess.Popen(
        command, cwd=folder, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as server:
        output: deque[str] = deque(maxlen=20)
        listener = threading.Thread(target=_listen, args=(server, output), daemon=True)
        listener.start()
        try:
            print(check(store, partial(_require_alive, server, output, listener)), flush=True)
        finally:
            # The group may be gone if the server has ended.
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            listener.join(PATIENCE_AT_END_SECONDS)


def _listen(server: subprocess.Popen[str], output: deque[str]) -> None:
    """Print the output of a server and keep its last lines."""
    assert server.stderr is not None
    for line in server.stderr:
        print(line, end="", file=sys.stderr, flush=True)
        output.append(line.strip())


def _require_alive(server: subprocess.Popen[str], output: deque[str], listener: threading.Thread) -> None:
    if server.poll() is None:
        return
    listener.join(PATIENCE_AT_END_SECONDS)
    # The last lines are from make itself.
    lines = [line for line in output if line and not line.startswith(("make:", "make["))]
    last = lines[-1] if lines else "no output"
    raise InputError(f"tour: the server ended by itself ({server.returncode}): {last}")
