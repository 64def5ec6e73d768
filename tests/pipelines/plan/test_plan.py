"""A plan counts what a sweep would take, says what does not fit and why, and leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest
import torch
from rich.console import Console

from pipelines.plan import plan
from pipelines.plan.costs import PlanMachine, PlanRow, Workload, plan_rows, totals
from pipelines.plan.options import PlanOptions
from pipelines.plan.plan import data_of, machine_of
from pipelines.plan.table import findings, plan_table, print_plan
from pipelines.sweep.grid import architectures_of
from pipelines.sweep.search_space import SearchSpace
from pipelines.trial.optimizer_choice import optimizer_for
from research.errors import InputError
from research.models.accounting import forward_flops, parameter_count, training_flops
from research.models.budget import Budget, architectures_for
from research.spec import ArchitectureSpec
from research.task.windows import WindowedData
from research.training.memory_estimate import FITTING_SHARE, peak_memory
from research.training.time_estimate import TimeEstimator
from tests.conftest import prepare_study
from tests.support.verbs import commands_to_type

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GB = 10**9
ROOMY = PlanMachine(device=CPU, memory=1000 * GB, host_memory=1000 * GB, disk=1000 * GB)
WORK = Workload(windows=(3000, 800), epochs=20, batch_sizes=(64, 128, 256))
TWO_BILLION = architectures_for(Budget.parse("2B"))


class Clock(TimeEstimator):
    """A second per layer and trial, and a record of what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def trial(self, a: ArchitectureSpec, *, batch_size: int, micro_batch: int, **rest: object) -> float:
        self.asked.append((batch_size, micro_batch))
        return float(a.n_layers)


def text_of(rows: list[PlanRow], **options: object) -> str:
    page = StringIO()
    print_plan(rows, totals(rows, 12), PlanOptions(**options), Console(width=160, file=page))  # type: ignore[arg-type]
    return page.getvalue()


def test_the_next_command_can_be_copied_as_it_stands() -> None:
    rows = plan_rows(TWO_BILLION, WORK, ROOMY, Clock())
    assert text_of(rows, budget="2B").endswith("\nnext  make sweep BUDGET=2B\n")
    assert text_of(rows, budget="2B", all=True).endswith("\nnext  make sweep BUDGET=2B\n")
    assert text_of(rows, budget="2B", horizon=3).endswith("BUDGET=2B\n      and the other variables of this plan\n")


def test_a_row_counts_parameters_and_operations() -> None:
    (row, *_) = plan_rows(TWO_BILLION, WORK, ROOMY, Clock())
    a = row.architecture
    assert row.parameters == parameter_count(a)
    assert row.flops_per_sample == training_flops(a)
    assert row.flops_per_trial == 20 * (3000 * training_flops(a) + 800 * forward_flops(a))
    assert row.checkpoint == 16 * parameter_count(a)
    assert row.peak_memory == peak_memory(a, 256, CPU)
    assert (row.micro_batch, row.accumulation, row.obstacles) == (256, 1, ())


def test_memory_is_planned_for_the_largest_batch_and_time_for_the_smallest() -> None:
    clock = Clock()
    plan_rows(TWO_BILLION[:1], WORK, ROOMY, clock)
    assert clock.asked == [(64, 64)]


def test_where_memory_is_short_the_batch_is_split() -> None:
    a = ArchitectureSpec(d_model=64, n_layers=64, n_heads=2, d_ff=128)
    clock = Clock()
    tight = replace(ROOMY, memory=int(peak_memory(a, 32, CPU) / FITTING_SHARE) + 1)
    (row,) = plan_rows([a], WORK, tight, clock)
    assert (row.micro_batch, row.accumulation, row.obstacles) == (32, 8, ())
    assert row.peak_memory == peak_memory(a, 32, CPU)
    assert clock.asked == [(64, 32)]


def test_a_micro_batch_that_was_asked_for_is_planned_with_whether_it_fits_or_not() -> None:
    a = ArchitectureSpec(d_model=64, n_layers=64, n_heads=2, d_ff=128)
    tight = replace(ROOMY, memory=int(peak_memory(a, 32, CPU) / FITTING_SHARE) + 1)
    fits, too_large = (plan_rows([a], replace(WORK, micro_batch=size), tight, Clock())[0] for size in (16, 64))
    assert (fits.micro_batch, fits.accumulation, fits.obstacles) == (16, 16, ())
    assert (too_large.micro_batch, too_large.obstacles) == (64, ("memory",))


def test_what_does_not_fit_says_into_what() -> None:
    a = TWO_BILLION[:1]
    (parameters,) = (parameter_count(one) for one in a)
    short = {
        "memory": replace(ROOMY, memory=20 * GB),
        # The old checkpoint stays until the new one is written.
        "disk": replace(ROOMY, disk=31 * parameters),
        "host memory": replace(ROOMY, device=CUDA, host_memory=16 * parameters),
    }
    for obstacle, machine in short.items():
        (row,) = plan_rows(a, WORK, machine, Clock())
        assert row.obstacles == (obstacle,)
    assert plan_rows(a, WORK, replace(ROOMY, disk=33 * parameters), Clock())[0].obstacles == ()


def test_totals_are_over_what_fits_while_something_does() -> None:
    rows = plan_rows(TWO_BILLION, WORK, ROOMY, Clock())
    depths = sorted(row.architecture.n_layers for row in rows)
    sums = totals(rows, 12)
    assert sums.seconds[0] == 12 * depths[0]
    assert sums.seconds[2] == 12 * depths[-1]
    assert sums.checkpoint == 32 * max(row.parameters for row in rows)
    assert sums.weights == 12 * 4 * max(row.parameters for row in rows)
    assert sums.without == {}
    largest_out = [replace(row, obstacles=("memory",) if row.architecture.n_layers == 256 else ()) for row in rows]
    assert totals(largest_out, 12).seconds[2] < sums.seconds[2]
    assert totals(largest_out, 12).without == {"memory": depths.count(256)}
    none = [replace(row, obstacles=("memory",)) for row in rows]
    assert totals(none, 12).seconds == sums.seconds


def test_the_table_has_a_line_per_width_and_depth_or_one_per_architecture() -> None:
    rows = plan_rows(TWO_BILLION, WORK, ROOMY, Clock())
    shapes = {(a.d_model, a.n_layers) for a in TWO_BILLION}
    assert plan_table(rows, one_by_one=False).row_count == len(shapes) < len(TWO_BILLION)
    assert plan_table(rows, one_by_one=True).row_count == len(TWO_BILLION)


def test_a_plan_in_which_nothing_fits_says_so_and_what_would() -> None:
    rows = plan_rows(TWO_BILLION, WORK, replace(ROOMY, memory=20 * GB), Clock())
    told = text_of(rows, budget="2B")
    least = min(peak_memory(a, 1, CPU) for a in TWO_BILLION) / 1e9
    assert f"60 of 60 architectures do not fit: 60 for lack of memory; the smallest of them needs {least:.1f} GB." in told
    assert "no: memory" in told
    assert "make plan BUDGET=<a smaller size>" in told
    assert "make sweep" not in told


def test_low_memory_is_planned_as_such() -> None:
    tight = replace(ROOMY, memory=20 * GB)
    rows = plan_rows(TWO_BILLION, replace(WORK, optimizer="adafactor"), tight, Clock())
    fitting = [row for row in rows if not row.obstacles]
    assert 0 < len(fitting) < len(rows)
    assert all((row.micro_batch, row.accumulation) == (256, 1) for row in fitting)
    assert max(row.peak_memory for row in fitting) <= FITTING_SHARE * 20 * GB
    assert all(row.checkpoint < 9 * row.parameters for row in rows)


@pytest.mark.parametrize(
    ("asked", "gigabytes", "expected"),
    [
        ("auto", 100, "adamw"),
        ("auto", 20, "adafactor"),
        ("auto", 1, "adamw"),
        ("adafactor", 100, "adafactor"),
        ("adamw", 20, "adamw"),
    ],
)
def test_a_sweep_trains_with_one_optimizer_and_in_low_memory_only_where_it_must(
    asked: Literal["auto", "adamw", "adafactor"], gigabytes: int, expected: str
) -> None:
    assert optimizer_for(asked, TWO_BILLION, (64, 256), CPU, gigabytes * GB) == expected


def test_a_plan_that_fits_names_the_next_command() -> None:
    rows = plan_rows(TWO_BILLION, WORK, ROOMY, Clock())
    assert "make sweep BUDGET=2B" in text_of(rows, budget="2B")
    assert not any("do not fit" in line for line in findings(rows, totals(rows, 12), 12))


def test_the_windows_are_those_that_a_sweep_trains_on(prepared: WindowedData, tmp_path: Path) -> None:
    found = data_of(PlanOptions(store=tmp_path / "none"))
    assert list(found.split.train) == list(prepared.split.train)
    assert list(found.split.validation) == list(prepared.split.validation)
    assert found.columns == prepared.columns


def test_the_architectures_are_those_of_a_sweep_with_the_same_options(sp500: pd.DataFrame) -> None:
    options = PlanOptions(budget="2M", layers=(8,), context=30, window_norm=True)
    thirty = prepare_study(sp500, horizon=1, context_length=30)
    found = architectures_of(options, thirty, Budget.parse("2M"))
    assert {(a.n_layers, a.context_length, a.n_features, a.window_norm) for a in found} == {(8, 30, 25, True)}
    with pytest.raises(InputError, match="LAYERS=7"):
        architectures_of(replace(options, layers=(8, 7000)), thirty, Budget.parse("2M"))


def test_planning_makes_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("research.training.time_estimate.TimeEstimator", lambda device: Clock())
    store = tmp_path / "not" / "there"
    plan.main(PlanOptions(budget="2B", store=store, device="cpu"))
    told = capsys.readouterr().out
    assert not (tmp_path / "not").exists()
    assert commands_to_type(told, store)
    assert "3,012 + 877 windows" in told
    assert f"2B: {len(TWO_BILLION)} architectures" in told


def test_free_disk_is_that_of_the_folder_that_would_hold_the_store(tmp_path: Path) -> None:
    here = machine_of(CPU, PlanOptions(store=tmp_path / "a" / "b"))
    assert here.disk > 0
    assert 0 < here.memory <= here.host_memory * 1.5


@pytest.mark.parametrize(("name", "value"), [("data", "nowhere"), ("symbol", "AAPL"), ("features", "a26"), ("horizon", 0)])
def test_a_mistake_in_the_study_is_one_sentence(name: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(InputError) as mistake:
        data_of(replace(PlanOptions(store=tmp_path), **{name: value}))
    assert str(mistake.value).startswith(f"{name.upper()}={value}: ")


def test_batches_are_those_that_the_search_may_choose() -> None:
    assert WORK.batch_sizes == SearchSpace().batch_size
