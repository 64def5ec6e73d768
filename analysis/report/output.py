"""Output of a report: two pages with figures in a folder, and the same as a run in the store."""

from __future__ import annotations

import shutil
from pathlib import Path

from analysis.report import html, markdown
from analysis.report.document import ReportDocument
from analysis.report.inputs import ReportInputs
from research.tracking import schema
from research.tracking.store import Store

PAGES = ("report.html", "report.md")
NOTE_LENGTH = 5_000
"""Characters of the run's description; MLflow cuts a tag at 8,000."""


def write_report(report: ReportDocument, folder: Path) -> list[Path]:
    """Write both pages and return their paths; their figures are in `figures` below the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = (html.page(report), markdown.page(report))
    paths = [folder / name for name in PAGES]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


def log_report(store: Store, inputs: ReportInputs, folder: Path) -> str:
    """Log the folder as a run of kind `report` in the experiment of the first question; return the run id."""
    # Loads MLflow's client, which readers of a store need not wait for.
    from research.tracking.provenance import provenance
    from research.tracking.run_writer import RunLog

    experiment = inputs.questions[0].frontier.experiment
    log = RunLog.start(
        store,
        experiment_id=store.experiment(experiment),
        kind="report",
        name="report",
        params={"questions": len(inputs.questions)},
        tags={
            schema.STUDY_FINGERPRINT: ",".join(dict.fromkeys(question.frontier.study for question in inputs.questions)),
            schema.NOTE: (folder / PAGES[1]).read_text()[:NOTE_LENGTH],
            **provenance({}).tags("tapescale report"),
        },
    )

    def copy_pages(artifacts: Path) -> None:
        shutil.copytree(folder, artifacts, dirs_exist_ok=True)

    log.artifacts(copy_pages)
    slopes = {}
    for question in inputs.questions:
        frontier = question.frontier
        if question.judgement:
            name = f"slope/{frontier.study[:6]}-h{frontier.horizon}-c{frontier.context_length}"
            slopes[name] = question.judgement.verdict.slope
    log.finish("complete", metrics=slopes)
    return log.run_id
