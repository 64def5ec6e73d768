"""Printed output of a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from pipelines.plan.costs import PlanMachine, PlanRow, PlanTotals, Workload
from research.cli.console import byte_size, duration, plain_table, print_line
from research.cli.next_steps import print_next
from research.models.accounting import parameter_count
from research.models.budget import Budget
from research.runtime import hardware
from research.spec import ArchitectureSpec
from research.training.memory_estimate import FITTING_SHARE

if TYPE_CHECKING:
    from pipelines.plan.options import PlanOptions


COLUMNS = ("architecture", "parameters", "FLOP/sample", "FLOP/trial", "micro-batch", "peak memory", "a trial takes", "fits")
LEFT = {"architecture", "fits"}


def print_opening(
    budget: Budget, architectures: Sequence[ArchitectureSpec], work: Workload, machine: PlanMachine, screen: Console
) -> None:
    """Print what is planned, and for which machine."""
    sizes = sorted(parameter_count(a) for a in architectures)
    facts = hardware(machine.device)
    name = facts["cpu"] if machine.device.type == "cpu" else facts["accelerator"]
    several, each = (f"{machine.devices} x ", " on each") if machine.devices > 1 else ("", "")
    training, validation = work.windows
    batches = ", ".join(str(size) for size in sorted(work.batch_sizes))
    host = "" if machine.device.type == "cpu" else f", {byte_size(machine.host_memory)} on the host"
    print_line(
        screen, f"[bold]budget[/]     {budget.label}: {len(sizes)} architectures of {sizes[0]:,} .. {sizes[-1]:,} parameters"
    )
    trial = f"at most {work.epochs} epochs of {training:,} + {validation:,} windows, batches of {batches}"
    free = f"{byte_size(machine.memory)} of memory free{each}{host}, of which the plan uses {FITTING_SHARE:.0%}"
    print_line(screen, f"[bold]a trial[/]    {trial}")
    print_line(screen, f"[bold]device[/]     {several}{machine.device} ({name}, {facts['threads']} threads): {free}")
    if work.optimizer == "adafactor":
        print_line(screen, "[bold]optimizer[/]  adafactor in low memory: bfloat16 weights, no moments, one pass per batch")
    print_line(screen, f"[bold]disk[/]       {byte_size(machine.disk)} free\n")


def print_plan(rows: Sequence[PlanRow], sums: PlanTotals, options: PlanOptions, screen: Console) -> None:
    """Print the table, the totals, what does not fit, and the next command."""
    screen.print(plan_table(rows, one_by_one=options.all))
    for line in findings(rows, sums, options.trials):
        print_line(screen, line)
    fitting = any(not row.obstacles for row in rows)
    print_next(screen, options.store, f"make sweep BUDGET={options.budget}" if fitting else "make plan BUDGET=<a smaller size>")
    if fitting and options != type(options)(budget=options.budget, all=options.all, store=options.store):
        print_line(screen, "      and the other variables of this plan")


def plan_table(rows: Sequence[PlanRow], *, one_by_one: bool) -> Table:
    """Return one row per architecture, or per width and depth with ranges over heads and feed-forward widths."""

    def group_of(row: PlanRow) -> str | tuple[int, int]:
        return row.architecture.label if one_by_one else (row.architecture.d_model, row.architecture.n_layers)

    table = plain_table("", COLUMNS, LEFT)
    for _, group in groupby(rows, key=group_of):
        members = list(group)
        table.add_row(*_cells(members), style="dim" if all(row.obstacles for row in members) else None)
    return table


def findings(rows: Sequence[PlanRow], sums: PlanTotals, trials: int) -> list[str]:
    """Return the sentences under the table."""
    fitting = sum(not row.obstacles for row in rows)
    low, middle, high = (duration(seconds) for seconds in sums.seconds)
    counted = "those that fit" if fitting else "none fits; the times assume that they did"
    lines = [
        "Micro-batch x passes and memory are those of the largest batch; time is for all epochs at the smallest batch,",
        "estimated from single blocks timed on this machine now, so other load on it counts.",
        f"{trials} trials, one at a time: {middle} at the median architecture, {low} .. {high} ({counted}).",
        f"Disk: {byte_size(sums.checkpoint)} for the checkpoints of a running trial, "
        f"at most {byte_size(sums.weights)} for kept weights.",
    ]
    spread = [row.devices for row in rows if row.devices > 1 and not row.obstacles]
    if spread:
        lines.append(
            f"{len(spread)} of {len(rows)} architectures are trained on {_span(spread, str)} devices together; their times "
            "exclude communication between the devices."
        )
    if fitting < len(rows):
        reasons = ", ".join(f"{count} for lack of {name}" for name, count in sums.without.items())
        least = min(row.peak_memory for row in rows if row.obstacles)
        share = f"{len(rows) - fitting} of {len(rows)}"
        lines.append(f"{share} architectures do not fit: {reasons}; the smallest of them needs {byte_size(least)}.")
    return lines


def _cells(rows: Sequence[PlanRow]) -> list[str]:
    first = rows[0].architecture
    heads = _span((row.architecture.n_heads for row in rows), str)
    ratios = _span((row.architecture.d_ff / row.architecture.d_model for row in rows), lambda ratio: f"{ratio:g}")
    sizes = _span((row.micro_batch or 0 for row in rows), lambda size: f"{size or '-'}")
    counts = {row.parameters for row in rows}
    short = _span(counts, lambda count: _si(count).replace("G", "B"))
    obstacles = ", ".join(dict.fromkeys(name for row in rows for name in row.obstacles))
    fitting = [row for row in rows if not row.obstacles]
    devices = f" on {_span((row.devices for row in fitting), str)} devices" if any(row.devices > 1 for row in fitting) else ""
    verdict = f"{len(fitting)} of {len(rows)}{devices}: {obstacles}" if fitting else f"no: {obstacles}"
    passes = _span((row.accumulation for row in rows if row.micro_batch), str)
    return [
        f"d{first.d_model} L{first.n_layers} h{heads} ff{ratios}",
        f"{rows[0].parameters:,}" if len(counts) == 1 else short,
        _span((row.flops_per_sample for row in rows), _si),
        _span((row.flops_per_trial for row in rows), _si),
        f"{sizes} x {passes}" if passes else "-",
        _span((row.peak_memory for row in rows), byte_size),
        _span((row.seconds for row in rows), duration),
        verdict if obstacles else f"yes{devices}",
    ]


def _span(values: Iterable[float], text: Callable[..., str]) -> str:
    """Return the lowest and highest value as `low..high`, or one text if both are equal; a common unit appears once."""
    ordered = sorted(values)
    ends = list(dict.fromkeys(text(value) for value in (ordered[:1] + ordered[-1:])))
    if len(ends) == 2 and ends[0].split()[1:] == ends[1].split()[1:]:
        ends[0] = ends[0].split()[0]
    return "..".join(ends)


def _si(number: float) -> str:
    """Return a number with three digits and a unit, for example `1.25 T`."""
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1e3:.3g} K"
