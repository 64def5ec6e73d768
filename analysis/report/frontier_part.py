"""One question's part of the report: verdict, frontier with baselines, noise, rivals, forecasts."""

from __future__ import annotations

from analysis.compare import p_value_text
from analysis.laws.verdicts import Claim, Verdict
from analysis.leaderboard import leaderboard_sentences as standing_findings
from analysis.report.document import Block, Image, Inline, Items, Paragraph, Section, Table
from analysis.report.inputs import ReportQuestion, RunLink
from analysis.report.tables import report_table
from analysis.results.preregistered import MEANINGS
from analysis.store_scaling import law_table
from research.tracking.schema import BASELINE_TITLES, baseline_titles

PLAIN: dict[Claim, str] = {
    "scaling": "Yes: the loss falls with size.",
    "inverse": "No: the loss rises with size.",
    "equivalent": "No: a tenfold size changes the loss by less than {margin:.0%}.",
    "inconclusive": "No evidence of scaling, and none against it: these runs cannot tell.",
}
"""The verdict in plain words."""


def section(one: ReportQuestion, link: RunLink, figure: Image) -> Section:
    """Everything about one question."""
    blocks: list[Block] = [
        Paragraph(text=answer(one), tone="finding"),
        figure,
        _frontier_table(one, link),
        _noise_table(one, link),
    ]
    if one.judgement:
        blocks.append(_verdict_table(one.judgement.verdict))
        blocks += [Paragraph(text=caution, tone="caution") for caution in one.judgement.cautions]
    if laws := law_table(one.frontier):
        blocks.append(report_table(laws))
    blocks.append(Items(items=standing_findings(one.frontier)))
    if one.standings:
        blocks.append(_standings_table(one, link))
    if one.forecasts:
        blocks.append(_forecast_table(one, link))
    return Section(title=one.title, blocks=blocks)


def answer(one: ReportQuestion) -> str:
    """Does it scale, and does it beat what is simpler."""
    return f"{_scaling(one)} {_against_baselines(one)}"


def _scaling(one: ReportQuestion) -> str:
    if one.judgement is None:
        count = len(one.frontier.entries)
        tried = "One budget was" if count == 1 else f"{count} budgets were"
        return f"{tried} tried: no trend can be judged below three."
    found = one.judgement.verdict
    return (
        f"{PLAIN[found.claim].format(margin=found.margin)} A tenfold size changes the loss by {found.slope:+.1%}, 95% interval "
        f"[{found.low:+.1%}, {found.high:+.1%}], from {found.n_budgets} budgets; a change of {found.detectable:.1%} would have "
        f"been found four times out of five.{found.near_miss}"
    )


def _against_baselines(one: ReportQuestion) -> str:
    rivals = {name: loss for name, loss in one.frontier.baselines.items() if name != "prior"}
    if not rivals:
        return "No baseline was run on the same rows."
    strongest = min(rivals, key=lambda name: rivals[name])
    title = BASELINE_TITLES.get(strongest, strongest)
    better = [entry.budget for entry in one.frontier.entries if entry.against[strongest].high < 0]
    if better:
        return f"Beyond the noise of the days, {', '.join(better)} beats the strongest baseline, {title}."
    return f"No budget beats the strongest baseline, {title} at {rivals[strongest]:.4f}, beyond the noise of the days."


def _frontier_table(one: ReportQuestion, link: RunLink) -> Table:
    frontier = one.frontier
    titles = baseline_titles(frontier.baselines)
    rivals = [name for name in titles if name != "prior"]
    columns = [
        "budget",
        "best architecture",
        "parameters",
        "val_loss",
        "skill",
        *(f"minus {titles[r]}" for r in rivals),
    ]
    rows: list[list[Inline]] = []
    for entry in frontier.entries:
        gaps = [entry.against[name] for name in rivals]
        told = [f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]{'~' if gap.inside_noise else ''}" for gap in gaps]
        loss = link(f"{entry.val_loss:.4f}", entry.run_id)
        alarm = "" if entry.alarm == "none" else f" ({entry.alarm})"
        rows.append([entry.budget, entry.architecture + alarm, f"{entry.n_params:,}", loss, f"{entry.skill:+.3f}", *told])
    for name, title in titles.items():
        loss_of = frontier.baselines[name]
        skill = 1 - loss_of / frontier.base_rate_loss
        cells: list[Inline] = [title, "baseline", "", link(f"{loss_of:.4f}", frontier.baseline_runs[name])]
        rows.append([*cells, f"{skill:+.3f}", *("" for _ in rivals)])
    return Table(
        caption=f"Best trial of each budget, in nats over {frontier.n_days:,} validation days, beside the baselines",
        columns=columns,
        rows=rows,
        notes=[
            "In brackets: 95% of the paired daily difference, circular block bootstrap, blocks of 60 days; ~ inside the noise."
        ],
    )


def _noise_table(one: ReportQuestion, link: RunLink) -> Table:
    n = one.sure[0].n
    best = {entry.budget: entry for entry in one.frontier.entries}
    # A sweep's own run holds the losses of its replicates.
    sweeps = dict(zip(map(str, one.sweeps["budget"]), map(str, one.sweeps["run_id"]), strict=True))
    rows: list[list[Inline]] = []
    for each in one.sure:
        told = f"{each.fresh_mean:.4f} ± {_number(each.fresh_error)} ({each.fresh_seeds})" if each.fresh_seeds else "-"
        fresh = link(told, sweeps[each.budget]) if each.fresh_seeds and each.budget in sweeps else told
        layers = [_number(each.search), _number(each.seed), _number(each.validation)]
        flattered = f"{-each.curse:+.4f}" if each.fresh_seeds else "-"
        counts = f"{each.random_trials} of {best[each.budget].complete}"
        naive = link(f"{each.naive_best:.4f}", best[each.budget].run_id)
        rows.append([each.budget, naive, _number(each.expected_best), fresh, flattered, *layers, counts])
    return Table(
        caption="How sure: the loss told in three ways, and the standard error that each layer of noise gives it",
        columns=[
            "budget",
            "naive best",
            f"best of {n}",
            "fresh seeds",
            "flattered by",
            "search",
            "seed",
            "days",
            "random trials",
        ],
        rows=rows,
        notes=["Each layer alone; none contains another. The naive best was chosen for its loss and flatters itself."],
    )


def _verdict_table(found: Verdict) -> Table:
    def interval(low: float, high: float) -> str:
        return f"[{low:+.2%}, {high:+.2%}]"

    rows = [
        ["slope, change of the loss per tenfold size", f"{found.slope:+.2%}"],
        ["95% interval", interval(found.low, found.high)],
        [f"interval that a claim must keep zero out of ({found.claim_level:.1%})", interval(found.claim_low, found.claim_high)],
        [f"90% interval, inside ±{found.margin:.0%} for `equivalent`", interval(found.equivalence_low, found.equivalence_high)],
        ["smallest slope found four times out of five", f"{found.detectable:.2%}"],
        ["noise of the slope is estimated from", found.noise],
        ["verdict", found.claim],
    ]
    return Table(caption="The verdict's numbers", columns=["quantity", "value"], rows=rows)


def _standings_table(one: ReportQuestion, link: RunLink) -> Table:
    runs = {entry.budget: entry.run_id for entry in one.frontier.entries} | dict(one.frontier.baseline_runs)
    rows: list[list[Inline]] = [
        [
            BASELINE_TITLES.get(each.name, each.name),
            link(f"{each.loss:.4f}", runs[each.name]),
            p_value_text(each.p_value),
            "may be the best" if each.is_in else "is not the best",
        ]
        for each in sorted(one.standings, key=lambda each: each.loss)
    ]
    return Table(
        caption="Which may be the best: model confidence set (Hansen, Lunde & Nason 2011), 95%",
        columns=["model", "val_loss", "p", "verdict"],
        rows=rows,
    )


def _forecast_table(one: ReportQuestion, link: RunLink) -> Table:
    rows: list[list[Inline]] = []
    for each in one.forecasts:
        said = each.forecast
        found: Inline = link(f"{each.observed:.4f}", each.observed_run_id) if each.observed is not None else "-"
        how = MEANINGS[each.state]
        if each.score:
            how = f"{'inside' if each.score.inside else 'outside'} its interval, error {each.score.signed_error:+.2%}"
        told = f"{said.loss:.4f} [{said.low:.4f}, {said.high:.4f}]"
        rows.append([each.budget, f"{each.made:%Y-%m-%d %H:%M}", link(told, each.run_id), found, how])
    return Table(
        caption="Forecasts of the lowest loss, sealed before the sweep existed",
        columns=["budget", "made (UTC)", "forecast, 95%", "found", "how it did"],
        rows=rows,
    )


def _number(value: float) -> str:
    return f"{value:.4f}" if value == value else "-"
