"""The report as a whole: which parts, in which order, with which figures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis import data_scaling_table
from analysis.figures import scaling as figures_scaling
from analysis.figures import search as figures_search
from analysis.figures import shape as figures_shape
from analysis.figures import style as figures
from analysis.report import champions_part as use_part
from analysis.report import data_part, frontier_part, limits_part, shape_part
from analysis.report.document import Block, Image, Items, Paragraph, ReportDocument, Section
from analysis.report.inputs import ReportInputs, ReportQuestion
from analysis.report.tables import report_table
from analysis.results import extrapolation
from analysis.results import run_curves as curves
from research.tracking.store import Store

FRONTIER_CAPTION = (
    "Every trial by counted size; the best of each budget joined, with the noise of the days; baselines as lines; shaded: "
    "where the next budgets are expected."
)
AHEAD = {
    "rollout": "Each budget foretold from the smaller ones alone, and what was found.",
    "residuals": "What a straight line in the logarithm of the size leaves; bars: 95% of search and seed noise.",
    "isoflop": "Trials of equal training compute against size: a dip in between would be a best size for that compute.",
}


def assemble_report(store: Store, sources: ReportInputs, folder: Path) -> ReportDocument:
    """All parts; figures are written to the folder as PNG, PDF and CSV on the way."""
    folder.mkdir(parents=True, exist_ok=True)
    experiments = dict.fromkeys(one.frontier.experiment for one in sources.questions)
    sections = [
        data_part.question_section(sources),
        data_part.evidence_section(sources),
        *(frontier_part.section(one, sources.link, _frontier_figure(one, folder)) for one in sources.questions),
        shape_part.section(sources, {one.frontier.key: _shape_figure(one, folder) for one in sources.questions}),
        *([_windows_section(sources)] if sources.data_axes else []),
        _trust_section(store, sources, folder),
        *([use_part.section(sources.champions)] if sources.champions else []),
        limits_part.not_established(sources),
        limits_part.next_steps(sources, store.root),
        data_part.reproduction_section(sources),
    ]
    return ReportDocument(
        title=f"Does a bigger transformer help? {', '.join(experiments)}",
        summary=_summary(sources),
        sections=sections,
        made=f"Made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC from {_count(sources)} runs. Every loss links to its run.",
    )


def _summary(sources: ReportInputs) -> list[Block]:
    scope = (
        "All losses are mean log losses in nats on validation days that trials were also chosen on, none on test days. "
        "A claim must survive the noise of seeds, search and days, and the baselines are the bar."
    )
    return [
        *(Paragraph(text=f"{one.title}. {frontier_part.answer(one)}", tone="finding") for one in sources.questions),
        Paragraph(text=scope),
    ]


def _count(sources: ReportInputs) -> int:
    return sum(len(one.frontier.trials) + len(one.frontier.baseline_runs) for one in sources.questions)


def _frontier_figure(one: ReportQuestion, folder: Path) -> Image:
    ahead = extrapolation.forecast_band(one.frontier)
    return _image(
        figures_scaling.fan(one.frontier, ahead),
        pd.concat([one.frontier.trials.assign(what="trial"), ahead.assign(what="ahead")], ignore_index=True),
        figures.report_path(folder, "frontier", one.frontier),
        caption=FRONTIER_CAPTION,
        alternative=f"{one.title}: validation loss against counted parameters",
    )


def _ahead_figures(one: ReportQuestion, folder: Path) -> list[Image]:
    """How well this question's budgets foretold each other."""
    tables = {name: getattr(extrapolation, name)(one.frontier) for name in AHEAD}
    return [
        _named(getattr(figures_scaling, name)(numbers, one.title), numbers, name, one, folder, AHEAD[name])
        for name, numbers in tables.items()
        if len(numbers)
    ]


def _shape_figure(one: ReportQuestion, folder: Path) -> Image:
    fitted = {budget: curve.curve if curve else None for budget, curve in one.effects.curves.items()}
    return _image(
        figures_shape.ratio_curves(one.frontier.trials, fitted, f"{one.title}: loss against depth / width at fixed size"),
        one.effects.points(),
        figures.report_path(folder, "shape", one.frontier),
        caption="Loss against depth / width at each budget; a curve only where enough random trials are there for one.",
        alternative=f"{one.title}: validation loss against depth divided by width",
    )


def _windows_section(sources: ReportInputs) -> Section:
    """What more training windows gave, at each size."""
    tables = [
        table
        for axis in sources.data_axes
        for table in (data_scaling_table.data_table(axis), data_scaling_table.data_law_table(axis))
        if table
    ]
    return Section(title="More training windows", blocks=[report_table(table) for table in tables])


def _trust_section(store: Store, sources: ReportInputs, folder: Path) -> Section:
    """Is the search long enough, do trainings converge, are probabilities true, did budgets foretell each other."""
    blocks: list[Block] = []
    for one in sources.questions:
        tuning, learning = curves.tuning_curves(one.frontier), curves.learning_curves(store, one.frontier)
        calibration = curves.calibration_curves(store, one.frontier)
        if len(tuning):
            drawn = figures_search.tuning(tuning, one.frontier.baselines, one.title)
            told = "Expected lowest loss of n random trials: flat where more search would find nothing better."
            blocks.append(_named(drawn, tuning, "tuning", one, folder, told))
        drawn = figures_search.learning(learning, one.frontier.base_rate_loss, f"{one.title}: best of each budget")
        blocks.append(
            _named(drawn, learning, "learning", one, folder, "Training and validation loss by epoch, best of each budget.")
        )
        drawn = figures_search.reliability(calibration, f"{one.title}: calibration")
        blocks.append(
            _named(drawn, calibration, "calibration", one, folder, "How often it happened where it was said to happen.")
        )
        blocks += _ahead_figures(one, folder)
    reading = "A curve that still falls at its end says that more trials, or more epochs, would change the tables above."
    return Section(title="Search, training, calibration and looks ahead", blocks=[Items(items=[reading]), *blocks])


def _named(drawn: Figure, numbers: pd.DataFrame, name: str, one: ReportQuestion, folder: Path, caption: str) -> Image:
    path = figures.report_path(folder, name, one.frontier)
    return _image(drawn, numbers, path, caption=caption, alternative=f"{one.title}: {name}")


def _image(figure: Figure, numbers: pd.DataFrame, path: Path, *, caption: str, alternative: str) -> Image:
    figures.save(figure, path, numbers)
    png = path.with_suffix(".png").read_bytes()
    return Image(name=path.stem, caption=f"{caption} Numbers: {path.stem}.csv", alternative=alternative, png=png)
