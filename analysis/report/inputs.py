"""Everything that a report tells, read once: frontiers, verdicts, effects, forecasts, sweeps and where each run's page is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.report.document import Link
from analysis.results.architecture import Effects, OptimumShift, effects, movements
from analysis.results.data_scaling import DataAxis, data_axes
from analysis.results.frontier import Frontier, frontiers
from analysis.results.horizon_transfer import HorizonTransfer, transfers
from analysis.results.model_confidence_set import ConfidenceSetMember
from analysis.results.model_pairs import standings
from analysis.results.preregistered import PreregisteredForecast, load_forecasts
from analysis.results.scaling_verdict import ScalingVerdict, judge
from analysis.results.uncertainty import LossUncertainty, sureness
from research.tracking import query, schema
from research.tracking.champion_history import ChampionRecord, current_champions
from research.tracking.query import RunRecord
from research.tracking.store import Store
from research.tracking.test_set_access import by_question, is_of_the_question, shares_days, shares_instruments

RunLink = Callable[[str, str], Link]
"""(words, run id) -> the words with a link to the run's page."""


@dataclass(frozen=True, kw_only=True)
class TestSetUse:
    """Evaluations that have opened the test days of a question, deleted ones among them."""

    own: int
    """Of the question itself."""
    second: int
    """Those of them that came after one of the same final run."""
    others: dict[str, int]
    """Other question -> evaluations of it on some of these days, of one of these instruments."""


@dataclass(frozen=True, kw_only=True)
class ReportQuestion:
    """One frontier with all that follows from it."""

    frontier: Frontier
    judgement: ScalingVerdict | None
    """None below three budgets."""
    sure: list[LossUncertainty]
    standings: list[ConfidenceSetMember]
    """Model confidence set over finalists and baselines."""
    effects: Effects
    forecasts: list[PreregisteredForecast]
    sweeps: pd.DataFrame
    """Parent runs, one row per budget, by size."""
    looks: TestSetUse
    title: str
    """The horizon, and as much else as tells it from the other questions."""


@dataclass(frozen=True, kw_only=True)
class Champion:
    """A registered version that is in use."""

    used: ChampionRecord
    test_skill: float | None
    """None where no evaluation is known."""


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """What the store holds."""

    questions: list[ReportQuestion]
    movements: list[OptimumShift]
    transfers: list[HorizonTransfer]
    data_axes: list[DataAxis]
    """Questions that were asked with several numbers of training windows."""
    snapshots: pd.DataFrame
    champions: list[Champion]
    """Of the experiments that the questions are of."""
    link: RunLink


def read_inputs(store: Store, experiment: str | None, ui: str) -> ReportInputs:
    """All questions of an experiment, or of the store."""
    found = frontiers(store, experiment)
    every = effects(found)
    forecasts = load_forecasts(store, found)
    parents = query.runs(store, kinds=("sweep",), experiment=experiment)
    evaluations = query.runs(store, kinds=("evaluation",))
    looks_at = looks(store, [_sweeps_of(parents, frontier) for frontier in found])
    questions = [
        ReportQuestion(
            frontier=frontier,
            judgement=judge(frontier),
            sure=sureness(frontier),
            standings=standings(frontier),
            effects=effect,
            forecasts=forecasts.get(frontier.key, []),
            sweeps=_sweeps_of(parents, frontier),
            looks=opened,
            title=title,
        )
        for frontier, effect, opened, title in zip(found, every, looks_at, titles(found), strict=True)
    ]
    return ReportInputs(
        questions=questions,
        movements=movements(every),
        transfers=transfers(store, found),
        data_axes=data_axes(found),
        snapshots=_snapshots(query.runs(store, kinds=("snapshot",)), questions),
        champions=champions(store, evaluations, {one.experiment for one in found}),
        link=linker(ui, query.experiments(store), questions),
    )


def titles(found: Sequence[Frontier]) -> list[str]:
    """A name for each question, as short as still differs from the others."""
    ways = (
        [f"horizon {one.horizon}" for one in found],
        [f"{one.experiment}, horizon {one.horizon}" for one in found],
        [f"{one.experiment}, horizon {one.horizon}, {one.features}, study {one.study[:6]}" for one in found],
        [
            f"{one.experiment}, horizon {one.horizon}, {one.features}, context {one.context_length}, study {one.study[:6]}"
            for one in found
        ],
    )
    short = next((way for way in ways if len(set(way)) == len(way)), ways[-1])
    return [f"{name[0].upper()}{name[1:]}" if name.startswith("horizon") else name for name in short]


def linker(ui: str, experiments: dict[str, str], questions: Sequence[ReportQuestion]) -> RunLink:
    """Links to MLflow's pages at this address."""
    ids = {name: experiment_id for experiment_id, name in experiments.items()}
    where: dict[str, str] = {}
    for one in questions:
        runs = [*one.frontier.trials["run_id"], *one.frontier.baseline_runs.values(), *one.sweeps["run_id"]]
        where |= dict.fromkeys(map(str, runs), ids[one.frontier.experiment])
        where |= dict.fromkeys((each.run_id for each in one.forecasts), ids[one.frontier.experiment])

    def link(text: str, run_id: str) -> Link:
        return Link(text=text, url=f"{ui.rstrip('/')}/#/experiments/{where[run_id]}/runs/{run_id}", hint=f"run {run_id}")

    return link


def _sweeps_of(parents: pd.DataFrame, frontier: Frontier) -> pd.DataFrame:
    if parents.empty:
        return parents.reindex(columns=["run_id", "budget"])
    same = (parents[schema.STUDY_FINGERPRINT] == frontier.study) & (parents["horizon"] == frontier.horizon)
    mine = parents[same & (parents["context_length"] == frontier.context_length)]
    order = {entry.budget: place for place, entry in enumerate(frontier.entries)}
    return mine.assign(place=mine["budget"].map(order).fillna(len(order))).sort_values("place").drop(columns="place")


def champions(store: Store, evaluations: pd.DataFrame, experiments: set[str]) -> list[Champion]:
    """Who is in use of some experiments' models."""
    skills = dict(zip(evaluations["run_id"], evaluations["test_skill"])) if "test_skill" in evaluations else {}
    used = [one for one in current_champions(store) if one.name.startswith(tuple(f"{name}-" for name in experiments))]
    return [Champion(used=one, test_skill=skills.get(one.evaluation)) for one in used]


def looks(store: Store, sweeps: Sequence[pd.DataFrame]) -> list[TestSetUse]:
    """For each question, given by its sweeps: how often its test days were opened, and for which others."""
    evaluations, experiments = query.evaluations(store), query.experiments(store)
    return [
        _looks(evaluations, dict(rows.iloc[0].dropna()), experiments) if len(rows) else TestSetUse(own=0, second=0, others={})
        for rows in sweeps
    ]


def _looks(evaluations: Sequence[RunRecord], sweep: Mapping[str, object], experiments: dict[str, str]) -> TestSetUse:
    where, labels = sweep["experiment_id"], sweep.get(schema.TARGET_DIGEST)
    own = [one for one in evaluations if is_of_the_question(one, sweep, where, labels)]
    known = {one.run_id for one in own}
    others = [one for one in evaluations if one.run_id not in known and shares_days(one.params, sweep)]
    return TestSetUse(
        own=len(own),
        second=sum(schema.SECOND_LOOK in one.tags for one in own),
        others=by_question((one for one in others if shares_instruments(one.params, sweep)), experiments),
    )


def _snapshots(runs: pd.DataFrame, questions: Sequence[ReportQuestion]) -> pd.DataFrame:
    used = {str(digest) for one in questions for digest in one.sweeps.get(schema.SNAPSHOT_DIGEST, ())}
    return runs[runs[schema.SNAPSHOT_DIGEST].isin(used)].drop_duplicates(schema.SNAPSHOT_DIGEST) if len(runs) else runs
