"""Assemble the report: its sections in order, with their figures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis import data_scaling_table
from analysis.figures import scaling, search, shape, style
from analysis.report import champions_part, data_part, frontier_part, limits_part, shape_part
from analysis.report.document import Block, Image, Items, Paragraph, ReportDocument, Section
from analysis.report.inputs import ReportInputs, ReportQuestion
from analysis.report.tables import report_table
from analysis.results import extrapolation, run_curves
from research.tracking.store import Store

FRONTIER_CAPTION = (
    "Every trial by counted size; the best of each budget joined, with the noise of the days; baselines as lines; shaded: "
    "a forecast of the next budgets."
)
AHEAD = {
    "rollout": "Each budget forecast from the smaller ones alone, and the loss observed.",
    "residuals": "Residuals of a straight line in the logarithm of the size; bars: 95% of search and seed noise.",
    "isoflop": "Trials of equal training compute against size: a dip in between would be a best size for that compute.",
}


def assemble_report(store: Store, inputs: ReportInputs, folder: Path) -> ReportDocument:
    """Return the report; its figures are written to the folder as PNG, PDF and CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    experiments = dict.fromkeys(question.frontier.experiment for question in inputs.questions)
    n_runs = sum(len(question.frontier.trials) + len(question.frontier.baseline_runs) for question in inputs.questions)
    sections = [
        data_part.question_section(inputs),
        data_part.evidence_section(inputs),
        *(frontier_part.section(question, inputs.link, _frontier_figure(question, folder)) for question in inputs.questions),
        shape_part.section(inputs, {question.frontier.key: _shape_figure(question, folder) for question in inputs.questions}),
        *([_windows_section(inputs)] if inputs.data_axes else []),
        _trust_section(store, inputs, folder),
        *([champions_part.section(inputs.champions)] if inputs.champions else []),
        limits_part.not_established(inputs),
        limits_part.next_steps(inputs, store.root),
        data_part.reproduction_section(inputs),
    ]
    return ReportDocument(
        title=f"Does a bigger transformer help? {', '.join(experiments)}",
        summary=_summary(inputs),
        sections=sections,
        made=f"Made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC from {n_runs} runs. Every loss links to its run.",
    )


def _summary(inputs: ReportInputs) -> list[Block]:
    scope = (
        "All losses are mean log losses in nats on validation days, on which trials were also chosen; none is on test days. "
        "A claim must survive the noise of seeds, search and days, and the baselines are the bar."
    )
    return [
        *(
            Paragraph(text=f"{question.title}. {frontier_part.answer(question)}", tone="finding")
            for question in inputs.questions
        ),
        Paragraph(text=scope),
    ]


def _frontier_figure(question: ReportQuestion, folder: Path) -> Image:
    ahead = extrapolation.forecast_band(question.frontier)
    return _image(
        scaling.frontier_figure(question.frontier, ahead),
        pd.concat([question.frontier.trials.assign(what="trial"), ahead.assign(what="ahead")], ignore_index=True),
        style.report_path(folder, "frontier", question.frontier),
        caption=FRONTIER_CAPTION,
        alternative=f"{question.title}: validation loss against counted parameters",
    )


def _ahead_figures(question: ReportQuestion, folder: Path) -> list[Image]:
    """Return figures of how well forecasts from smaller budgets did."""
    tables = {name: getattr(extrapolation, name)(question.frontier) for name in AHEAD}
    return [
        _named(getattr(scaling, name)(numbers, question.title), numbers, name, question, folder, AHEAD[name])
        for name, numbers in tables.items()
        if len(numbers)
    ]


def _shape_figure(question: ReportQuestion, folder: Path) -> Image:
    fitted = {budget: curve.curve if curve else None for budget, curve in question.effects.curves.items()}
    return _image(
        shape.ratio_curves(question.frontier.trials, fitted, f"{question.title}: loss against depth / width at fixed size"),
        question.effects.points(),
        style.report_path(folder, "shape", question.frontier),
        caption="Loss against depth / width at each budget; a curve needs enough random trials.",
        alternative=f"{question.title}: validation loss against depth divided by width",
    )


def _windows_section(inputs: ReportInputs) -> Section:
    """Return the gain from more training windows, at each size."""
    tables = [
        table
        for axis in inputs.data_axes
        for table in (data_scaling_table.data_table(axis), data_scaling_table.data_law_table(axis))
        if table
    ]
    return Section(title="More training windows", blocks=[report_table(table) for table in tables])


def _trust_section(store: Store, inputs: ReportInputs, folder: Path) -> Section:
    """Return figures that show whether search and training are long enough, and whether probabilities are calibrated."""
    blocks: list[Block] = []
    for question in inputs.questions:
        tuning, learning = run_curves.tuning_curves(question.frontier), run_curves.learning_curves(store, question.frontier)
        calibration = run_curves.calibration_curves(store, question.frontier)
        if len(tuning):
            drawn = search.tuning(tuning, question.frontier.baselines, question.title)
            caption = "Expected lowest loss of n random trials: flat where more search would find nothing better."
            blocks.append(_named(drawn, tuning, "tuning", question, folder, caption))
        drawn = search.learning(learning, question.frontier.base_rate_loss, f"{question.title}: best of each budget")
        blocks.append(
            _named(drawn, learning, "learning", question, folder, "Training and validation loss by epoch, best of each budget.")
        )
        drawn = search.reliability(calibration, f"{question.title}: calibration")
        blocks.append(
            _named(drawn, calibration, "calibration", question, folder, "Observed frequency against predicted probability.")
        )
        blocks += _ahead_figures(question, folder)
    reading = "A curve that still falls at its end means that more trials, or more epochs, would change the tables above."
    return Section(title="Search, training, calibration and forecasts", blocks=[Items(items=[reading]), *blocks])


def _named(drawn: Figure, numbers: pd.DataFrame, name: str, question: ReportQuestion, folder: Path, caption: str) -> Image:
    path = style.report_path(folder, name, question.frontier)
    return _image(drawn, numbers, path, caption=caption, alternative=f"{question.title}: {name}")


def _image(figure: Figure, numbers: pd.DataFrame, path: Path, *, caption: str, alternative: str) -> Image:
    style.save(figure, path, numbers)
    png = path.with_suffix(".png").read_bytes()
    return Image(name=path.stem, caption=f"{caption} Numbers: {path.stem}.csv", alternative=alternative, png=png)
