"""How a plan is drawn: every number was computed before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipelines.plan.costs import PlanMachine, PlanRow, PlanTotals, Workload
from research.cli.next_steps import print_next
from research.models.accounting import parameter_count
from research.models.budget import Budget
from research.runtime import hardware
from research.spec import ArchitectureSpec
from research.training.memory_estimate import FITTING_SHARE

if TYPE_CHECKING:
    from pipelines.plan.options import PlanOptions

PIPE_WIDTH = 140
COLUMNS = ("architecture", "parameters", "FLOP/sample", "FLOP/trial", "micro-batch", "peak memory", "a trial takes", "fits")
LEFT = {"architecture", "fits"}


def console() -> Console:
    """A console; a pipe has no width of its own and gets one that holds the table."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=PIPE_WIDTH)


def print_opening(
    budget: Budget, architectures: Sequence[ArchitectureSpec], work: Workload, machine: PlanMachine, screen: Console
) -> None:
    """Say what is planned, and for which machine."""
    sizes = sorted(parameter_count(a) for a in architectures)
    facts = hardware(machine.device)
    name = facts["cpu"] if machine.device.type == "cpu" else facts["accelerator"]
    several, each = (f"{machine.devices} x ", " on each") if machine.devices > 1 else ("", "")
    training, validation = work.windows
    batches = ", ".join(str(size) for size in sorted(work.batch_sizes))
    beside = "" if machine.device.type == "cpu" else f", {_bytes(machine.host_memory)} beside it"
    _say(screen, f"[bold]budget[/]     {budget.label}: {len(sizes)} architectures of {sizes[0]:,} .. {sizes[-1]:,} parameters")
    trial = f"at most {work.epochs} epochs of {training:,} + {validation:,} windows, batches of {batches}"
    free = f"{_bytes(machine.memory)} of memory free{each}{beside}, of which {FITTING_SHARE:.0%} are planned with"
    _say(screen, f"[bold]a trial[/]    {trial}")
    _say(screen, f"[bold]device[/]     {several}{machine.device} ({name}, {facts['threads']} threads): {free}")
    if work.optimizer == "adafactor":
        _say(screen, "[bold]optimizer[/]  adafactor in low memory: bfloat16 weights, no moments, the whole batch in one pass")
    _say(screen, f"[bold]disk[/]       {_bytes(machine.disk)} free\n")


def print_plan(rows: Sequence[PlanRow], sums: PlanTotals, options: PlanOptions, screen: Console) -> None:
    """The table, the sums, what does not fit, and what to type next."""
    screen.print(plan_table(rows, one_by_one=options.all))
    for line in findings(rows, sums, options.trials):
        _say(screen, line)
    fitting = any(not row.obstacles for row in rows)
    print_next(screen, options.store, f"make sweep BUDGET={options.budget}" if fitting else "make plan BUDGET=<a smaller size>")
    if fitting and options != type(options)(budget=options.budget, all=options.all, store=options.store):
        _say(screen, "      and the other variables of this plan")


def plan_table(rows: Sequence[PlanRow], *, one_by_one: bool) -> Table:
    """One line per architecture, or one per width and depth with the ranges over heads and feed-forward widths."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in LEFT else "right", no_wrap=True)
    for _, group in groupby(rows, key=lambda row: row.architecture.label if one_by_one else _shape(row)):
        members = list(group)
        table.add_row(*_cells(members), style="dim" if all(row.obstacles for row in members) else None)
    return table


def findings(rows: Sequence[PlanRow], sums: PlanTotals, trials: int) -> list[str]:
    """Sentences under the table."""
    fitting = sum(not row.obstacles for row in rows)
    low, middle, high = (duration(seconds) for seconds in sums.seconds)
    counted = "those that fit" if fitting else "what would be if they fitted"
    lines = [
        "Micro-batch x passes per step at the largest batch, with its memory; time for all epochs at the smallest batch, from",
        "single blocks timed on this machine just before, so that other work on it shows.",
        f"{trials} trials, one at a time: {middle} at the median architecture, {low} .. {high} ({counted}).",
        f"Disk: {_bytes(sums.checkpoint)} for the checkpoints of a running trial, "
        f"at most {_bytes(sums.weights)} for kept weights.",
    ]
    spread = [row.devices for row in rows if row.devices > 1 and not row.obstacles]
    if spread:
        lines.append(
            f"{len(spread)} of {len(rows)} architectures are trained on {_span(spread, str)} devices together; their times "
            "leave out what the devices send each other."
        )
    if fitting < len(rows):
        reasons = ", ".join(f"{count} for lack of {name}" for name, count in sums.without.items())
        least = min(row.peak_memory for row in rows if row.obstacles)
        share = f"{len(rows) - fitting} of {len(rows)}"
        lines.append(f"{share} architectures do not fit: {reasons}; the smallest of them needs {_bytes(least)}.")
    return lines


def _cells(rows: Sequence[PlanRow]) -> list[str]:
    first = rows[0].architecture
    heads = _span((row.architecture.n_heads for row in rows), str)
    ratios = _span((row.architecture.d_ff / row.architecture.d_model for row in rows), lambda ratio: f"{ratio:g}")
    sizes = _span((row.micro_batch or 0 for row in rows), lambda size: f"{size or '-'}")
    passes = _span((row.accumulation for row in rows if row.micro_batch), str)
    return [
        f"d{first.d_model} L{first.n_layers} h{heads} ff{ratios}",
        _counts([row.parameters for row in rows]),
        _span((row.flops_per_sample for row in rows), _si),
        _span((row.flops_per_trial for row in rows), _si),
        f"{sizes} x {passes}" if passes else "-",
        _span((row.peak_memory for row in rows), _bytes),
        _span((row.seconds for row in rows), duration),
        _verdict(rows),
    ]


def _verdict(rows: Sequence[PlanRow]) -> str:
    failing, fitting = [row for row in rows if row.obstacles], [row for row in rows if not row.obstacles]
    together = f" on {_span((row.devices for row in fitting), str)} devices" if any(row.devices > 1 for row in fitting) else ""
    if not failing:
        return f"yes{together}"
    why = ", ".join(dict.fromkeys(name for row in failing for name in row.obstacles))
    return f"{len(fitting)} of {len(rows)}{together}: {why}" if fitting else f"no: {why}"


def _span(values: Iterable[float], text: Callable[..., str]) -> str:
    """The lowest and the highest value, or one text where both read alike; a unit that both have stands once."""
    ordered = sorted(values)
    ends = list(dict.fromkeys(text(value) for value in (ordered[:1] + ordered[-1:])))
    if len(ends) == 2 and ends[0].split()[1:] == ends[1].split()[1:]:
        ends[0] = ends[0].split()[0]
    return "..".join(ends)


def _counts(counts: Sequence[int]) -> str:
    """An exact count, or a range in short."""
    return f"{counts[0]:,}" if len(set(counts)) == 1 else _span(counts, lambda count: _si(count).replace("G", "B"))


def _shape(row: PlanRow) -> tuple[int, int]:
    return row.architecture.d_model, row.architecture.n_layers


def _si(number: float) -> str:
    """Three digits and a unit, for example `1.25 T`."""
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1e3:.3g} K"


def _bytes(number: float) -> str:
    if number >= 1e9:
        return f"{number / 1e9:,.1f} GB"
    return f"{number / 1e6:,.0f} MB" if number >= 1e6 else f"{number / 1e3:,.0f} KB"


def duration(seconds: float) -> str:
    """Hours, or what reads better where they are few."""
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _say(screen: Console, text: str) -> None:
    screen.print(text, soft_wrap=True, highlight=False)
