"""`make effects`: what depth, width and the other settings contribute, and where the best shape lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.options import EffectsOptions

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from analysis.results.architecture import Effects, OptimumShift
    from analysis.results.horizon_transfer import HorizonTransfer
    from analysis.results.importance import Importance

REPORTS = "reports"


def main(options: EffectsOptions) -> None:
    """Print the tables of every question, write figures and their numbers."""
    from analysis.results.architecture import effects, movements
    from analysis.results.frontier import frontiers
    from analysis.results.horizon_transfer import transfers
    from research.cli.console import console
    from research.cli.next_steps import print_next
    from research.tracking.store import open_store

    screen = console()
    store = open_store(options.store, must_exist=True)
    frontier_list = frontiers(store, options.experiment)
    found = effects(frontier_list)
    for one in found:
        screen.print(curve_table(one))
        if any(one.importances.values()):
            screen.print(importance_table(one))
        for line in findings(one):
            screen.print(line, soft_wrap=True, highlight=False)
        screen.print()
    for line in (*LEGEND, *(moved(one) for one in movements(found))):
        screen.print(line, soft_wrap=True, highlight=False)
    screen.print()
    rows = transfers(store, frontier_list)
    if rows:
        screen.print(transfer_table(rows))
    for line in transfer_findings(rows):
        screen.print(line, soft_wrap=True, highlight=False)
    _draw(found, store.root / REPORTS)
    screen.print(f"figures and their numbers in {store.root / REPORTS}", soft_wrap=True, highlight=False)
    print_next(screen, options.store, "make compare", "make report")


LEGEND = (
    "best depth / width: where a quadratic in its logarithm is lowest, over random trials only, in brackets where chance may "
    "have put it there; 95%: bootstrap over trials; p: permutation test that the ratio does not matter, Holm-adjusted over all "
    "curves shown.",
    "share: total Sobol index by permutation on held-out trials (random forest, 5 folds) ± standard error; ~ may be nothing "
    "(Holm over the settings). At a fixed size depth and width hide behind each other: only both together show the shape.",
)


def curve_table(one: Effects) -> Table:
    """One row per budget: the ratio and how sure it is."""
    from analysis.results.shape_curve import LEVEL, ratio_label
    from research.cli.console import plain_table

    asked = one.frontier
    title = f"{asked.experiment}, horizon {asked.horizon}, study {asked.study[:6]}: depth / width at fixed size"
    table = plain_table(title, ["budget", "random trials", "best depth / width", "95%", "p", "verdict"])
    for budget, curve in one.curves.items():
        if curve is None:
            table.add_row(budget, f"{_random_trials(one, budget)}", "-", "-", "-", "too few random trials")
            continue
        interval = f"{ratio_label(curve.best_low)} .. {ratio_label(curve.best_high)}"
        p_value = f"{one.curve_p[budget]:.3f}"
        best = ratio_label(curve.best)
        shown = best if one.curve_p[budget] < LEVEL else f"({best})"
        table.add_row(budget, f"{curve.trials}", shown, interval, p_value, _verdict(one, budget))
    return table


def _verdict(one: Effects, budget: str) -> str:
    from analysis.results.shape_curve import LEVEL

    if one.best_is_known(budget):
        return "a best ratio inside what was tried"
    return "matters; best at the edge of what was tried" if one.curve_p[budget] < LEVEL else "no evidence that it matters"


def _random_trials(one: Effects, budget: str) -> int:
    return next(len(entry.random_losses) for entry in one.frontier.entries if entry.budget == budget)


def importance_table(one: Effects) -> Table:
    """Settings down, budgets across; the last row is how much the forest explains at all."""
    from analysis.results.importance import SETTINGS
    from research.cli.console import plain_table

    table = plain_table("share of the variance of val_loss that a setting is part of", ["setting", *one.importances])
    table.columns[0].justify = "left"
    for setting in SETTINGS:
        table.add_row(setting, *(_share(found, setting) for found in one.importances.values()))
    explained = (f"{found.r2:+.2f} of {found.trials} trials" if found else "-" for found in one.importances.values())
    table.add_row("R² on held-out trials", *explained, style="cyan")
    return table


def _share(found: Importance | None, setting: str) -> str:
    if found is None or not found.explains:
        return "-"
    for one in found.contributions:
        if one.setting == setting:
            return f"{one.share:.2f} ± {one.error:.2f}{'~' if one.is_noise else ' '}"
    return "not varied"


def findings(one: Effects) -> list[str]:
    """Where nothing can be ranked, and what would change that."""
    from analysis.results.importance import FEWEST_TRIALS
    from analysis.results.shape_curve import FEWEST_RATIOS
    from analysis.results.shape_curve import FEWEST_TRIALS as FEWEST_RANDOM

    lines = []
    few = ", ".join(budget for budget, found in one.importances.items() if found is None)
    if few:
        lines.append(f"{few}: fewer than {FEWEST_TRIALS} trials that differ, no ranking; search on with TRIALS=+20.")
    for budget, found in one.importances.items():
        if found and not found.explains:
            lines.append(
                f"{budget}: a forest explains nothing of trials it has not seen (R² {found.r2:+.2f}, p {found.p_value:.2f}): "
                "a ranking would be noise."
            )
    short = [budget for budget, curve in one.curves.items() if curve is None]
    if short:
        need = f"{FEWEST_RANDOM} random trials of {FEWEST_RATIOS} ratios"
        lines.append(f"{', '.join(short)}: a curve needs {need}; two of five trials are random, search on with TRIALS=+20.")
    return lines


def moved(one: OptimumShift) -> str:
    """One sentence on whether the best ratio moves along budgets or horizons."""
    from analysis.results.shape_curve import ratio_label

    told = ", ".join(f"{value} {ratio_label(ratio)}" for value, ratio in one.ratios.items())
    verdict = "it moves" if one.p_value < 0.05 else "no evidence that it moves"
    return f"best depth / width along the {one.along}, {one.at}: {told}; {verdict} (Cochran's Q, p {one.p_value:.3f})."


def transfer_table(rows: list[HorizonTransfer]) -> Table:
    """One row per budget and ordered pair of horizons."""
    from research.cli.console import plain_table

    columns = ["budget", "chosen at", "used at", "in common", "rank correlation", "regret (nats)", "95%, validation days"]
    table = plain_table("does one horizon's ranking serve another?", columns)
    for one in rows:
        table.add_row(
            one.budget,
            f"h{one.chosen_at}",
            f"h{one.used_at}",
            f"{one.shared} {one.matched_by}s",
            f"{one.correlation:+.2f} [{one.low:+.2f}, {one.high:+.2f}]",
            f"{one.regret.mean:+.4f}",
            f"[{one.regret.low:+.4f}, {one.regret.high:+.4f}]{'~' if one.regret.inside_noise else ' '}",
        )
    return table


def transfer_findings(rows: list[HorizonTransfer]) -> list[str]:
    """How to read the table, or how to get one."""
    if not rows:
        return [
            "transfer between horizons: no five architectures were tried at two of them; make study HORIZONS=1,3 TRIALS=12."
        ]
    return [
        "regret: daily loss of the first horizon's best less that of the horizon's own best, which was chosen on these days: "
        "that makes the regret look larger. Configurations include the learning rate: a bad one is bad at every horizon."
    ]


def _draw(found: list[Effects], folder: Path) -> None:
    import pandas as pd

    from analysis.figures import shape as figures_shape
    from analysis.figures import style as figures

    for one in found:
        title = f"{one.frontier.experiment}, horizon {one.frontier.horizon}"
        curves = {budget: curve.curve if curve else None for budget, curve in one.curves.items()}
        drawn = figures_shape.ratio_curves(one.frontier.trials, curves, f"{title}: loss against depth / width at fixed size")
        figures.save(drawn, figures.report_path(folder, "shape", one.frontier), one.points())
        cells = {budget: one.heat_map(budget) for budget in curves}
        numbers = pd.concat([each.assign(budget=budget) for budget, each in cells.items()])
        drawn = figures_shape.heat_maps(cells, f"{title}: median val_loss, and how many trials")
        figures.save(drawn, figures.report_path(folder, "depth-width", one.frontier), numbers)


if __name__ == "__main__":
    from research.cli.run import run

    run(main, EffectsOptions)
