"""`make study`: a ladder of sweeps, every budget at every horizon with equal trials, in one command."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.options import SweepOptions

FAILED = 1
"""Exit code where a sweep of the ladder failed and the others went on."""


@dataclass(frozen=True, kw_only=True)
class StudyOptions(SweepOptions):
    """Run a sweep at every budget and every horizon, cheapest first; the same command goes on where it was stopped.

    Takes the same flags as a sweep.

    examples:
      make study BUDGETS=2K..2M/half HORIZONS=1,3,5 TRIALS=12
      make study BUDGETS=20K,200K HORIZONS=1 TRIALS=+6
      tapescale study --budgets 2K..20K/half --horizons 1 3 5 --trials 12
    """

    budgets: str = "2K..20K/half"
    """A list (20K,200K,2M), a range in decades (2K..2M) or half decades (2K..2M/half), or a mix of them."""
    horizons: tuple[int, ...] = (1, 3, 5)
    """Sessions ahead; each is a sweep of its own at every budget."""
    windows: str = ""
    """Numbers of training windows, for example 1K,4K,16K, each a sweep of its own at every budget; all if not given."""
    budget: str = ""
    """Not for a study; give --budgets."""
    horizon: int = 0
    """Not for a study; give --horizons."""


def main(options: StudyOptions) -> None:
    """Run a study from the command line."""
    from pipelines.study.budget_list import parse_budgets, parse_windows, rungs_of
    from research.errors import require

    # Told before the heavy imports, so that a typo is answered at once.
    require(not options.budget, "BUDGET", options.budget, f"a study takes a list; give BUDGETS={options.budget}.")
    require(not options.horizon, "HORIZON", options.horizon, f"a study takes a list; give HORIZONS={options.horizon}.")
    require(options.trials >= 1, "TRIALS", options.trials, "give 1 or more.")
    rungs = rungs_of(parse_budgets(options.budgets), options.horizons, parse_windows(options.windows))

    from rich.console import Console

    from pipelines.study.driver import run_study

    console = Console()
    # A pipe or a log file has no width of its own; a sweep's table needs about a hundred columns.
    overview = run_study(options, rungs, console if console.is_terminal else Console(width=110))
    if overview.failed:
        raise SystemExit(FAILED)
