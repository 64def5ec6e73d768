"""`make control`: the pipeline must find a planted signal, and must find none in shuffled labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pipelines.checks.control_experiments import ControlExperiment
    from pipelines.options import SweepOptions
    from research.tracking.store import Store

FAILED = 1
"""Exit code if a control failed; then no result of this pipeline is reliable."""


@dataclass(frozen=True, kw_only=True)
class ControlOptions:
    """Run a small sweep on a synthetic market with a planted signal, and one on a market without any.

    The first must end near the Bayes loss, which is known, the second at the training prior.

    examples:
      make control
      make control SIGNAL=0.3 LAG=30 DEVICE=cuda
      tapescale control --signal 0.5 --lag 20
    """

    signal: float = 0.5
    """Strength of the planted signal: the drift is this many daily volatilities, times an old day's innovation."""
    lag: int = 20
    """Age of that innovation in days."""
    bars: int = 40_000
    """Days of each market."""
    horizon: int = 1
    """Sessions ahead."""
    budget: str = "6K"
    """Number of parameters."""
    layers: tuple[int, ...] = ()
    """Depths to search; the three shallowest of the budget if not given: the signal needs no deep model."""
    trials: int = 4
    """Trials of each sweep."""
    epochs: int = 6
    """Upper limit of a trial's epochs."""
    seed: int = 0
    """Seed of markets, search and training."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    workers: int | None = None
    """Trials at a time; chosen by measurement if not given."""
    threads: int | None = None
    """CPU threads of a trial."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store."""


def main(options: ControlOptions) -> None:
    """Run both controls, print and store their results; exit code 1 if one failed."""
    from pipelines.checks.control_experiments import examine
    from pipelines.sweep.driver import run_sweep
    from research.cli.console import console
    from research.errors import require

    fix = f"the planted drift repeats the day {options.lag} back; give a horizon up to that, or a larger LAG."
    require(options.horizon <= options.lag, "HORIZON", options.horizon, fix)
    screen = console(110)
    arms = []
    for title, requested in arms_of(options).items():
        screen.rule(f"{title}: DATA={requested.data}", align="left")
        sweep = run_sweep(requested, screen, brief=True)
        arms.append(examine(title, sweep, requested))
    _record(arms, options, sweep.context.store)
    screen.rule("controls, on test days that nothing was chosen on", align="left")
    screen.print(table_of(arms))
    _conclude(arms, options.store, screen)
    if not all(arm.passed for arm in arms):
        raise SystemExit(FAILED)


def arms_of(options: ControlOptions) -> dict[str, SweepOptions]:
    """Return the sweep options of each control, by title."""
    from pipelines.options import SweepOptions

    market = f"bars={options.bars},lag={options.lag}"
    shared = SweepOptions(
        budget=options.budget,
        horizon=options.horizon,
        layers=options.layers or _shallowest(options.budget),
        trials=options.trials,
        epochs=options.epochs,
        seed=options.seed,
        device=options.device,
        workers=options.workers,
        threads=options.threads,
        store=options.store,
    )
    return {
        "planted signal": replace(shared, data=f"synthetic:{market},signal={options.signal:g},seed={options.seed}"),
        "shuffled labels": replace(
            shared, data=f"synthetic:{market},signal=0,seed={options.seed + 1}", shuffle_labels=options.seed
        ),
    }


def _shallowest(budget: str, count: int = 3) -> tuple[int, ...]:
    from research.models.budget import Budget, architectures_for
    from research.spec import ArchitectureSpec

    requested = Budget.parse(budget)
    fitting = architectures_for(requested, ArchitectureSpec(d_model=1, n_layers=1, n_heads=1, d_ff=1), requested.grid)
    return tuple(sorted({shape.n_layers for shape in fitting})[:count])


def table_of(arms: list[ControlExperiment]) -> Table:
    """Return a table of test losses, one column per model, the Bayes loss last."""
    from research.cli.console import plain_table

    names = ["prior", "volatility", "logistic", "lightgbm", "best"]
    columns = ("market", "days", "prior", "volatility", "logistic", "LightGBM", "best trial", "Bayes loss", "")
    table = plain_table("", columns, left=("market", ""))
    for arm in arms:
        losses = [f"{arm.losses[name]:.4f}" for name in names]
        bayes = f"{arm.bayes.realised:.4f} ± {arm.bayes.realised_error:.4f}"
        verdict = "[green]passed[/]" if arm.passed else "[red]FAILED[/]"
        table.add_row(arm.title, f"{arm.days:,}", *losses, bayes, verdict)
    return table


def _conclude(arms: list[ControlExperiment], store: Path, screen: Console) -> None:
    from research.cli.console import print_line
    from research.cli.next_steps import print_next

    for arm in arms:
        print_line(screen, f"{arm.title}: {arm.verdict}")
    if all(arm.passed for arm in arms):
        print_line(screen, "The pipeline finds what is there and nothing that is not.")
        print_next(screen, store, "make sweep")
    else:
        print_line(screen, "[red]A control failed[/]: believe no result until it passes.")


def _record(arms: list[ControlExperiment], options: ControlOptions, store: Store) -> None:
    from research.runtime import choose_device, hardware
    from research.tracking import schema
    from research.tracking.provenance import provenance
    from research.tracking.run_writer import RunLog

    code = provenance(hardware(choose_device(options.device)))
    passed = all(arm.passed for arm in arms)
    log = RunLog.start(
        store,
        experiment_id=store.experiment(schema.CONTROL_EXPERIMENT),
        kind="control",
        name=f"{options.budget}-h{options.horizon} {'passed' if passed else 'FAILED'}",
        params=arms[0].settings,
        tags={
            **code.tags("tapescale control"),
            schema.NOTE: "\n".join(f"- **{arm.title}** (sweep `{arm.sweep_run}`): {arm.verdict}" for arm in arms),
        },
    )
    log.artifacts(code.write)
    log.finish("complete", metrics={name: value for arm in arms for name, value in _metrics(arm).items()})


def _metrics(arm: ControlExperiment) -> dict[str, float]:
    prefix = "planted" if arm.planted else "shuffled"
    losses = {f"{name}_loss": loss for name, loss in arm.losses.items()}
    others = {"bayes_loss": arm.bayes.realised, "bayes_loss_expected": arm.bayes.expected, "passed": float(arm.passed)}
    return {f"{prefix}/{name}": value for name, value in {**losses, **others}.items()}
