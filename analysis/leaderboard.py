"""`make leaderboard`: the best architecture per budget and horizon, and which differences are inside the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.options import LeaderboardOptions

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from analysis.results.frontier import BudgetResult, Frontier
    from research.tracking.store import Store


VERSUS = "vs X: 1 - loss / loss of X on the same days, negative where X is better; ~ inside the noise (95%, 60-day blocks)."
"""Legend of the columns that compare with a baseline."""


def main(options: LeaderboardOptions) -> None:
    """Print two tables per question: the best architectures, and how certain their losses are."""
    from analysis.adopted import adopted_studies, print_adopted
    from analysis.uncertainty_table import LEGEND, uncertainty_sentences, uncertainty_table
    from research.cli.console import console, print_line
    from research.cli.next_steps import print_next
    from research.tracking.store import open_store

    screen = console()
    store = open_store(options.store, must_exist=True)
    adopted = adopted_studies(store, options.experiment) if options.adopted else []
    frontiers = _frontiers(store, options.experiment, required=not adopted)
    for frontier in frontiers:
        screen.print(leaderboard_table(frontier))
        screen.print(uncertainty_table(frontier))
        for line in [VERSUS, *leaderboard_sentences(frontier), *uncertainty_sentences(frontier)]:
            print_line(screen, line)
        screen.print()
    for line in LEGEND if frontiers else ():
        print_line(screen, line)
    if options.figures:
        print_line(screen, f"figures and their numbers: {_draw(store, frontiers)}")
    if options.adopted:
        print_adopted(adopted, screen)
    steps = ("make scaling", "make effects", "make compare", "make ui", "make sweep BUDGET=<another size>")
    print_next(screen, options.store, *steps)


def _frontiers(store: Store, experiment: str | None, *, required: bool) -> list[Frontier]:
    """Return the store's frontiers; if none is `required`, a store without trials has an empty list."""
    from analysis.results.frontier import frontiers
    from research.errors import InputError

    try:
        return frontiers(store, experiment)
    except InputError:
        if required:
            raise
        return []


def leaderboard_table(frontier: Frontier) -> Table:
    """Return one row per budget, by counted size, then one row per baseline."""
    from research.cli.console import plain_table
    from research.tracking.schema import baseline_titles

    title = (
        f"{frontier.experiment}, horizon {frontier.horizon}, {frontier.features}, context {frontier.context_length}, "
        f"study {frontier.study[:6]}: {frontier.n_train_windows:,} training windows, {frontier.n_days:,} validation days, "
        f"base-rate loss {frontier.base_rate_loss:.4f}"
    )
    titles = baseline_titles(frontier.baselines)
    # Skill is already measured against the training prior.
    compared = [name for name in titles if name != "prior"]
    headings = [f"vs {titles[name]}" for name in compared]
    table = plain_table(title, ["budget", "best architecture", "parameters", "val_loss", "skill", *headings, "AUC", "trials"])
    for entry in frontier.entries:
        failed = f" + {entry.failed} failed" if entry.failed else ""
        table.add_row(
            entry.budget,
            entry.architecture + ("" if entry.alarm == "none" else f" ({entry.alarm})"),
            f"{entry.n_params:,}",
            f"{entry.val_loss:.4f}",
            f"{entry.skill:+.3f}",
            *(_skill_against(entry, name, frontier.baselines[name]) for name in compared),
            f"{entry.auc:.3f} ± {entry.auc_se:.3f}",
            f"{entry.complete}{failed}",
        )
    for name, baseline in titles.items():
        loss = frontier.baselines[name]
        skill = 1 - loss / frontier.base_rate_loss
        table.add_row("", baseline, "-", f"{loss:.4f}", f"{skill:+.3f}", *("" for _ in compared), "", "", style="cyan")
    return table


def _skill_against(entry: BudgetResult, baseline: str, loss: float) -> str:
    mark = "~" if entry.against[baseline].inside_noise else " "
    return f"{1 - entry.val_loss / loss:+.3f}{mark}"


def leaderboard_sentences(frontier: Frontier) -> list[str]:
    """Return one sentence per budget on its distance to the strongest baseline, then the cautions that apply."""
    lines = [_against_strongest(entry, frontier) for entry in frontier.entries]
    counts = {entry.budget: entry.complete for entry in frontier.entries}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{budget} {count}" for budget, count in counts.items())
        lines.append(f"Trials differ between budgets ({listed}): the best of more trials is lower by chance alone.")
    lines.append("The best trial was chosen on these days, which flatters it; only the unopened test days can tell.")
    return lines


def _against_strongest(entry: BudgetResult, frontier: Frontier) -> str:
    from research.tracking.schema import baseline_titles

    losses = {name: loss for name, loss in frontier.baselines.items() if name in entry.against}
    if not losses:
        return f"{entry.budget}: no baseline on the same rows."
    strongest = min(losses, key=lambda name: losses[name])
    gap = entry.against[strongest]
    side = "better than" if gap.mean < 0 else "worse than"
    certainty = "inside the noise" if gap.inside_noise else "outside the noise"
    return (
        f"{entry.budget}: {abs(gap.mean):.4f} nats {side} the strongest baseline, {baseline_titles(losses)[strongest]}, "
        f"interval [{gap.low:+.4f}, {gap.high:+.4f}]: {certainty}."
    )


def _draw(store: Store, frontiers: list[Frontier]) -> Path:
    """Draw tuning, learning and calibration curves of each question; return their folder."""
    from analysis.figures import search, style
    from analysis.results import run_curves

    folder = store.root / "reports"
    for frontier in frontiers:
        title = f"{frontier.experiment}, horizon {frontier.horizon}"
        tuning = run_curves.tuning_curves(frontier)
        learning = run_curves.learning_curves(store, frontier)
        calibration = run_curves.calibration_curves(store, frontier)
        figures = {
            "learning": (search.learning(learning, frontier.base_rate_loss, f"{title}: best of each budget"), learning),
            "calibration": (search.reliability(calibration, f"{title}: calibration"), calibration),
        }
        if len(tuning):
            figures["tuning"] = (search.tuning(tuning, frontier.baselines, title), tuning)
        for name, (figure, numbers) in figures.items():
            style.save(figure, style.report_path(folder, name, frontier), numbers)
    return folder
