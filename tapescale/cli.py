"""The console command: `tapescale VERB`, with options as `--flag value` or `VARIABLE=value`.

Only the standard library is imported here, so that the list of verbs needs no environment; a verb's module is imported when
the verb runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

MISTAKE = 2


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One verb of the command line."""

    name: str
    module: str
    """Module whose `main` takes the options of the verb."""
    summary: str
    """One line of the list of verbs."""
    resumes: bool = False
    """Whether the same command continues an interrupted run."""


GROUPS: dict[str, tuple[Verb, ...]] = {
    "set up": (
        Verb(
            name="data",
            module="pipelines.data.ingest",
            summary="load bars or refresh a data set: SYMBOLS=SPY,^VIX START=1993-01-29, DATA=<file or name>",
        ),
        Verb(
            name="features",
            module="research.features.catalogue_table",
            summary="list every feature: formula, warm-up, source, sets",
        ),
        Verb(
            name="adopt", module="pipelines.adopt.adopt", summary="import results of an earlier study: PATHS='log.txt folder'"
        ),
    ),
    "search": (
        Verb(name="plan", module="pipelines.plan.plan", summary="estimate a sweep: sizes, FLOPs, memory, hours, disk"),
        Verb(
            name="sweep",
            module="pipelines.sweep.sweep",
            summary="search architectures at one budget: BUDGET=20K HORIZON=3 TRIALS=12",
            resumes=True,
        ),
        Verb(
            name="study",
            module="pipelines.study.study",
            summary="run several sweeps, resumable as a whole: BUDGETS=2K..2M/half HORIZONS=1,3,5",
            resumes=True,
        ),
        Verb(name="status", module="analysis.status", summary="show running sweeps, time left, stalls, disk; WATCH=5 redraws"),
    ),
    "read": (
        Verb(name="leaderboard", module="analysis.leaderboard", summary="show the best architecture per budget and horizon"),
        Verb(name="effects", module="analysis.effects", summary="show what depth, width and the other settings contribute"),
        Verb(
            name="compare", module="analysis.compare", summary="test A=20K against B=logistic, or find all possible best models"
        ),
        Verb(name="scaling", module="analysis.scaling", summary="fit loss against counted parameters: table, verdict, figure"),
        Verb(
            name="forecast",
            module="analysis.forecast",
            summary="register the expected loss of a larger budget: BUDGET=20M HORIZON=1",
        ),
        Verb(name="report", module="analysis.report.report", summary="write one page with every result and its limits"),
        Verb(
            name="backtest",
            module="analysis.backtest.backtest",
            summary="trade on the probabilities, after costs: BUDGET= HORIZON= or RUN=",
        ),
    ),
    "use": (
        Verb(
            name="train",
            module="pipelines.final.train",
            summary="train the best trial again over fresh seeds: BUDGET=20K HORIZON=1, or RUN=<trial>",
        ),
        Verb(
            name="evaluate",
            module="pipelines.final.evaluate",
            summary="open the test days once: BUDGET=20K, or RUN=<final run>",
        ),
        Verb(
            name="promote",
            module="pipelines.registry.promote",
            summary="make a tested version champion if it passes every gate",
        ),
        Verb(name="rollback", module="pipelines.registry.rollback", summary="restore the previous champion: MODEL="),
        Verb(name="predict", module="pipelines.serving.predict", summary="print the newest probabilities of registered models"),
        Verb(name="serve", module="pipelines.serving.serve", summary="serve a model over HTTP on this machine: MODEL= PORT="),
        Verb(name="ui", module="pipelines.serving.ui", summary="open MLflow's pages on this machine: PORT="),
    ),
    "check": (
        Verb(name="doctor", module="pipelines.checks.doctor", summary="check machine, packages, store and data; FIX=1 repairs"),
        Verb(
            name="baselines", module="pipelines.checks.baselines", summary="show what the reference models reach year by year"
        ),
        Verb(
            name="control",
            module="pipelines.checks.control",
            summary="find a planted signal, and none in shuffled labels",
            resumes=True,
        ),
        Verb(name="tour", module="pipelines.checks.tour", summary="run every verb once at a tiny size, in a store of its own"),
    ),
}
VERBS = {verb.name: verb for verbs in GROUPS.values() for verb in verbs}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `tapescale VERB [VARIABLE=value ...] [--flag value ...]`; without a verb, list the verbs."""
    name, *words = [*(sys.argv[1:] if arguments is None else arguments)] or ["help"]
    if name in ("help", "-h", "--help"):
        print(verb_list())
        return
    if name not in VERBS:
        near = get_close_matches(name, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else "`tapescale` lists them."
        print(f"error: {name}: no such verb; {hint}", file=sys.stderr)
        raise SystemExit(MISTAKE)

    from importlib import import_module

    from research.cli.run import run

    verb = VERBS[name]
    verb_main = import_module(verb.module).main
    run(verb_main, _own_words(verb_main, words), name, resumes=verb.resumes)


def _own_words(verb_main: Callable[[Any], None], words: Sequence[str]) -> list[str]:
    """Return the words of one verb of `make train evaluate SEEDS=7`, without variables that only another of them takes."""
    others = [VERBS[name] for name in os.environ.get("TAPESCALE_VERBS", "").split() if name in VERBS]
    if len(others) < 2:
        return list(words)

    from importlib import import_module

    from research.cli.run import options_of
    from research.cli.variables import variables_of

    own = variables_of(options_of(verb_main))
    theirs = {name for other in others for name in variables_of(options_of(import_module(other.module).main))}
    return [word for word in words if (name := word.partition("=")[0]) in own or name not in theirs]


def verb_list() -> str:
    """Return the verbs in groups, one line each."""
    lines = ["Does a bigger transformer help on market data, and in which shape?", ""]
    for group, verbs in GROUPS.items():
        lines += [group, *(f"  {verb.name:<12} {verb.summary}" for verb in verbs), ""]
    return "\n".join(
        [
            *lines,
            "tapescale VERB --help   options with examples; in a checkout also `make VERB HELP=1`",
            "tapescale sweep BUDGET=20K HORIZON=3 TRIALS=12   or   tapescale sweep --budget 20K --horizon 3 --trials 12",
        ]
    )
