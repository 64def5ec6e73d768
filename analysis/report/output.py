"""Where a report goes: two pages with their figures in a folder, and the same as a run in the store."""

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
"""MLflow cuts a tag at 8,000 characters."""


def write_report(report: ReportDocument, folder: Path) -> list[Path]:
    """The pages; the figures lie in `figures` below the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = (html.page(report), markdown.page(report))
    paths = [folder / name for name in PAGES]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


def log_report(store: Store, sources: ReportInputs, folder: Path) -> str:
    """Log the folder as a run of kind `report` in the experiment of the first question; returns the run id."""
    # Loads MLflow's client, which readers of a store need not wait for.
    from research.tracking.provenance import provenance
    from research.tracking.run_writer import RunLog

    experiment = sources.questions[0].frontier.experiment
    log = RunLog.start(
        store,
        experiment_id=store.experiment(experiment),
        kind="report",
        name="report",
        params={"questions": len(sources.questions)},
        tags={
            schema.STUDY_FINGERPRINT: ",".join(dict.fromkeys(one.frontier.study for one in sources.questions)),
            schema.NOTE: (folder / PAGES[1]).read_text()[:NOTE_LENGTH],
            **provenance({}).tags("analysis.report"),
        },
    )
    log.artifacts(lambda into: _copy(folder, into))
    log.finish("complete", metrics=_metrics(sources))
    return log.run_id


def _metrics(sources: ReportInputs) -> dict[str, float]:
    """The slopes, so that reports can be compared in a table."""
    judged = [one for one in sources.questions if one.judgement]
    return {
        f"slope/{one.frontier.study[:6]}-h{one.frontier.horizon}-c{one.frontier.context_length}": one.judgement.verdict.slope
        for one in judged
        if one.judgement
    }


def _copy(folder: Path, into: Path) -> None:
    shutil.copytree(folder, into, dirs_exist_ok=True)
