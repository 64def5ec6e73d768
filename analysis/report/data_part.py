"""The report's questions, data and evidence, and the commands that reproduce it."""

from __future__ import annotations

from typing import Any

from analysis.report.commands import as_words, bundled_digests, settings_of
from analysis.report.document import Block, Commands, Inline, Paragraph, Section, Table
from analysis.report.inputs import ReportInputs, ReportQuestion
from research.tracking import schema
from research.tracking.test_set_access import questions_as_text

TASKS = {
    "threshold": "does the {touch} touch {threshold:+.4g}% within {horizon} session{s}?",
    "downside": "does the {touch} fall by {threshold:.4g}% within {horizon} session{s}?",
}


def question_section(inputs: ReportInputs) -> Section:
    """Return one row per question with the digests of its data."""
    rows: list[list[Inline]] = []
    for question in inputs.questions:
        first = question.sweeps.iloc[0] if len(question.sweeps) else None
        digests = [str(first[name])[:12] for name in DIGESTS] if first is not None else ["-"] * len(DIGESTS)
        rows.append(
            [question.title, question.frontier.features, question.frontier.instruments, question.frontier.study[:12], *digests]
        )
    blocks: list[Block] = [
        *(Paragraph(text=_question_text(question)) for question in inputs.questions),
        Table(
            caption="Data of each question; runs with equal digests used equal bytes",
            columns=["question", "features", "instruments", "study", "bars", "feature matrix", "labels"],
            rows=rows,
        ),
    ]
    if len(inputs.snapshots):
        blocks.append(_snapshot_table(inputs))
    return Section(title="Question and data", blocks=blocks)


DIGESTS = (schema.SNAPSHOT_DIGEST, schema.FEATURE_DIGEST, schema.TARGET_DIGEST)


def _question_text(question: ReportQuestion) -> str:
    if not len(question.sweeps):
        return f"{question.title}."
    run = question.sweeps.iloc[0]
    values: dict[str, Any] = {
        "touch": "closing price" if run.get("touch") == "close" else "high" if run["task"] == "threshold" else "price",
        "threshold": 100 * float(run["threshold"]),
        "horizon": question.frontier.horizon,
        "s": "s" if question.frontier.horizon > 1 else "",
    }
    text = TASKS.get(str(run["task"]), "task {task}, horizon {horizon}").format(**values, task=run["task"])
    return f"{question.title}: {text} Input: {question.frontier.context_length} days of {question.frontier.features}."


def _snapshot_table(inputs: ReportInputs) -> Table:
    rows: list[list[Inline]] = [
        [
            str(run[schema.SNAPSHOT_DIGEST])[:12],
            str(run["source"]),
            str(run["symbols"]),
            f"{run['first']} .. {run['last']}",
            f"{int(run['n_rows']):,}",
            f"{int(run['n_warnings'])}",
        ]
        for _, run in inputs.snapshots.iterrows()
    ]
    return Table(
        caption="Snapshots: immutable bars, named by their content",
        columns=["bars", "source", "symbols", "days", "rows", "warnings"],
        rows=rows,
    )


def evidence_section(inputs: ReportInputs) -> Section:
    """Return the splits by date: rows, positives, and the base rate with its standard error."""
    rows: list[list[Inline]] = []
    for question in inputs.questions:
        if not len(question.sweeps):
            continue
        run = question.sweeps.iloc[0]
        ends = {"train": f".. {run['train_end']}", "validation": f".. {run['validation_end']}", "test": f".. {run['test_end']}"}
        for split, until in ends.items():
            rows.append([inputs.link(question.title, str(run["run_id"])), split, until, *_counts(run, split)])
    text = "Rows are days with a complete context and a label. Training labels whose interval meets a later split were purged."
    return Section(
        title="Splits and evidence",
        blocks=[
            Paragraph(text=text),
            Table(
                caption="Evidence per split",
                columns=["question", "split", "until", "rows", "positives", "base rate"],
                rows=rows,
                notes=[
                    f"{question.title}: {test_days(question)} No number here comes from them." for question in inputs.questions
                ],
            ),
        ],
    )


def test_days(question: ReportQuestion) -> str:
    """Return whether the test days were opened, and how often."""
    looks = question.looks
    others = f" Other questions used them: {questions_as_text(looks.others)}." if looks.others else ""
    if not looks.own:
        return f"the test days were not opened{' for this question' if others else ''}.{others}"
    again = f", {looks.second} of them again for the same final run" if looks.second else ""
    return f"the test days were opened {looks.own} time{'s' if looks.own > 1 else ''} by `make evaluate`{again}.{others}"


def _counts(run: Any, split: str) -> list[Inline]:
    def value(name: str) -> float:
        return float(run.get(f"{schema.SWEEP_PREFIX}{split}_{name}", float("nan")))

    if value("positives") != value("positives"):
        return [f"{value('n'):,.0f}", "unknown", "unknown"]
    return [f"{value('n'):,.0f}", f"{value('positives'):,.0f}", f"{value('base_rate'):.3f} ± {value('base_rate_se'):.3f}"]


def reproduction_section(inputs: ReportInputs) -> Section:
    """Return one command per group of sweeps that differ in budget and horizon only."""
    bundled = bundled_digests(inputs)
    sweeps = [(question, run) for question in inputs.questions for _, run in question.sweeps.iterrows()]
    # Budgets by settings and horizon; then horizons by settings and budgets.
    budgets: dict[tuple[str, int], list[str]] = {}
    for question, run in sweeps:
        budgets.setdefault((as_words(settings_of(question, run, bundled)), question.frontier.horizon), []).append(
            str(run["budget"])
        )
    horizons: dict[tuple[str, str], list[int]] = {}
    for (settings, horizon), labels in budgets.items():
        horizons.setdefault((settings, ",".join(labels)), []).append(horizon)
    lines = [
        f"make study BUDGETS={labels} HORIZONS={','.join(map(str, values))} {settings}"
        for (settings, labels), values in horizons.items()
    ]
    changed = {"true": " with uncommitted changes", "false": ""}
    commits = sorted({f"{str(run[schema.GIT_COMMIT])[:12]}{changed[str(run[schema.GIT_DIRTY])]}" for _, run in sweeps})
    return Section(
        title="How to reproduce it",
        blocks=[Paragraph(text=f"Code: commit {', '.join(commits)}."), Commands(lines=[*lines, "make report"])],
    )
