"""Inputs of a report, read once: frontiers, verdicts, effects, forecasts, sweeps and links to runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.report.document import Link
from analysis.results.architecture import Effects, OptimumShift, effects, optimum_shifts
from analysis.results.data_scaling import DataAxis, data_axes
from analysis.results.frontier import Frontier, frontiers
from analysis.results.horizon_transfer import HorizonTransfer, transfers
from analysis.results.model_confidence_set import ConfidenceSetMember
from analysis.results.model_pairs import standings
from analysis.results.preregistered import PreregisteredForecast, load_forecasts
from analysis.results.scaling_verdict import ScalingVerdict, scaling_verdict_of
from analysis.results.uncertainty import LossUncertainty, loss_uncertainties
from research.tracking import query, schema
from research.tracking.champion_history import ChampionRecord, current_champions
from research.tracking.query import RunRecord
from research.tracking.store import Store
from research.tracking.test_set_access import by_question, is_of_the_question, shares_days, shares_instruments

RunLink = Callable[[str, str], Link]
"""(text, run id) -> the text with a link to the run's page."""


@dataclass(frozen=True, kw_only=True)
class TestSetUse:
    """Evaluations that opened the test days of a question, deleted ones included."""

    own: int
    """Evaluations of the question itself."""
    second: int
    """Evaluations after the first of the same final run."""
    others: dict[str, int]
    """Other question -> its evaluations on some of these days and instruments."""


@dataclass(frozen=True, kw_only=True)
class ReportQuestion:
    """One frontier with everything derived from it."""

    frontier: Frontier
    judgement: ScalingVerdict | None
    """Verdict of scaling; None below three budgets."""
    sure: list[LossUncertainty]
    standings: list[ConfidenceSetMember]
    """Model confidence set over finalists and baselines."""
    effects: Effects
    forecasts: list[PreregisteredForecast]
    sweeps: pd.DataFrame
    """Parent runs, one row per budget, by size."""
    looks: TestSetUse
    title: str
    """Horizon, and whatever else distinguishes the question from the others."""


@dataclass(frozen=True, kw_only=True)
class Champion:
    """A registered version in use."""

    used: ChampionRecord
    test_skill: float | None
    """Skill on the test days; None without a known evaluation."""


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """Everything that a report is made from."""

    questions: list[ReportQuestion]
    optimum_shifts: list[OptimumShift]
    transfers: list[HorizonTransfer]
    data_axes: list[DataAxis]
    """Questions with several numbers of training windows."""
    snapshots: pd.DataFrame
    champions: list[Champion]
    """Champions in the experiments of the questions."""
    link: RunLink


def read_inputs(store: Store, experiment: str | None, ui: str) -> ReportInputs:
    """Read all questions of an experiment, or of the store."""
    store_frontiers = frontiers(store, experiment)
    all_effects = effects(store_frontiers)
    forecasts = load_forecasts(store, store_frontiers)
    parents = query.runs(store, kinds=("sweep",), experiment=experiment)
    evaluations = query.runs(store, kinds=("evaluation",))
    accesses = looks(store, [_sweeps_of(parents, frontier) for frontier in store_frontiers])
    questions = [
        ReportQuestion(
            frontier=frontier,
            judgement=scaling_verdict_of(frontier),
            sure=loss_uncertainties(frontier),
            standings=standings(frontier),
            effects=effect,
            forecasts=forecasts.get(frontier.key, []),
            sweeps=_sweeps_of(parents, frontier),
            looks=opened,
            title=title,
        )
        for frontier, effect, opened, title in zip(store_frontiers, all_effects, accesses, titles(store_frontiers), strict=True)
    ]
    return ReportInputs(
        questions=questions,
        optimum_shifts=optimum_shifts(all_effects),
        transfers=transfers(store, store_frontiers),
        data_axes=data_axes(store_frontiers),
        snapshots=_snapshots(query.runs(store, kinds=("snapshot",)), questions),
        champions=champions(store, evaluations, {frontier.experiment for frontier in store_frontiers}),
        link=linker(ui, query.experiments(store), questions),
    )


def titles(frontiers: Sequence[Frontier]) -> list[str]:
    """Return the shortest name of each question that differs from the others."""
    ways = (
        [f"horizon {f.horizon}" for f in frontiers],
        [f"{f.experiment}, horizon {f.horizon}" for f in frontiers],
        [f"{f.experiment}, horizon {f.horizon}, {f.features}, study {f.study[:6]}" for f in frontiers],
        [
            f"{f.experiment}, horizon {f.horizon}, {f.features}, context {f.context_length}, study {f.study[:6]}"
            for f in frontiers
        ],
    )
    short = next((way for way in ways if len(set(way)) == len(way)), ways[-1])
    return [f"{name[0].upper()}{name[1:]}" if name.startswith("horizon") else name for name in short]


def linker(ui: str, experiments: dict[str, str], questions: Sequence[ReportQuestion]) -> RunLink:
    """Return a function that links to MLflow's pages at the address `ui`."""
    ids = {name: experiment_id for experiment_id, name in experiments.items()}
    experiment_ids: dict[str, str] = {}
    for question in questions:
        frontier, forecasts = question.frontier, (forecast.run_id for forecast in question.forecasts)
        runs = [*frontier.trials["run_id"], *frontier.baseline_runs.values(), *question.sweeps["run_id"], *forecasts]
        experiment_ids |= dict.fromkeys(map(str, runs), ids[frontier.experiment])

    def link(text: str, run_id: str) -> Link:
        return Link(
            text=text, url=f"{ui.rstrip('/')}/#/experiments/{experiment_ids[run_id]}/runs/{run_id}", hint=f"run {run_id}"
        )

    return link


def _sweeps_of(parents: pd.DataFrame, frontier: Frontier) -> pd.DataFrame:
    if parents.empty:
        return parents.reindex(columns=["run_id", "budget"])
    same = (parents[schema.STUDY_FINGERPRINT] == frontier.study) & (parents["horizon"] == frontier.horizon)
    sweeps = parents[same & (parents["context_length"] == frontier.context_length)]
    order = {entry.budget: index for index, entry in enumerate(frontier.entries)}
    return sweeps.assign(order=sweeps["budget"].map(order).fillna(len(order))).sort_values("order").drop(columns="order")


def champions(store: Store, evaluations: pd.DataFrame, experiments: set[str]) -> list[Champion]:
    """Return the champions among the models of some experiments."""
    skills = dict(zip(evaluations["run_id"], evaluations["test_skill"])) if "test_skill" in evaluations else {}
    prefixes = tuple(f"{name}-" for name in experiments)
    records = [record for record in current_champions(store) if record.name.startswith(prefixes)]
    return [Champion(used=record, test_skill=skills.get(record.evaluation)) for record in records]


def looks(store: Store, sweeps: Sequence[pd.DataFrame]) -> list[TestSetUse]:
    """Return, for the sweeps of each question, how often its test days were opened and by which other questions."""
    evaluations, experiments = query.evaluations(store), query.experiments(store)
    return [
        _looks(evaluations, dict(rows.iloc[0].dropna()), experiments) if len(rows) else TestSetUse(own=0, second=0, others={})
        for rows in sweeps
    ]


def _looks(evaluations: Sequence[RunRecord], sweep: Mapping[str, object], experiments: dict[str, str]) -> TestSetUse:
    where, labels = sweep["experiment_id"], sweep.get(schema.TARGET_DIGEST)
    own = [run for run in evaluations if is_of_the_question(run, sweep, where, labels)]
    own_ids = {run.run_id for run in own}
    others = [run for run in evaluations if run.run_id not in own_ids and shares_days(run.params, sweep)]
    return TestSetUse(
        own=len(own),
        second=sum(schema.SECOND_LOOK in run.tags for run in own),
        others=by_question((run for run in others if shares_instruments(run.params, sweep)), experiments),
    )


def _snapshots(runs: pd.DataFrame, questions: Sequence[ReportQuestion]) -> pd.DataFrame:
    used = {str(digest) for question in questions for digest in question.sweeps.get(schema.SNAPSHOT_DIGEST, ())}
    return runs[runs[schema.SNAPSHOT_DIGEST].isin(used)].drop_duplicates(schema.SNAPSHOT_DIGEST) if len(runs) else runs
