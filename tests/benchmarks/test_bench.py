from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import data as data_bench
from benchmarks.clone_runs import Copy, add_copies
from benchmarks.harness import Measurement, cells, in_turn, typical
from benchmarks.tracking import write_trial
from research.data.garch import SP500, variances
from research.task.windows import WindowedData
from research.tracking import query
from research.tracking.store import open_store


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Measurement(name="a", seconds=1.0, reference=8.0, most_ratio=1 / 8), True),
        (Measurement(name="a", seconds=1.1, reference=8.0, most_ratio=1 / 8), False),
        (Measurement(name="a", seconds=5.0, most_seconds=5.0), True),
        (Measurement(name="a", seconds=5.1, most_seconds=5.0), False),
        (Measurement(name="a", seconds=1.0, reference=8.0), None),
    ],
)
def test_a_target_is_met_up_to_its_value(row: Measurement, met: bool | None) -> None:
    assert row.met is met
    assert cells(row)[-1] == {True: "yes", False: "no", None: ""}[met]


def test_a_row_shows_its_ratio_and_its_target() -> None:
    assert cells(Measurement(name="a", seconds=1.0, reference=8.0, most_ratio=0.2)) == (
        "a",
        "1.000",
        "8.000",
        "0.125",
        "0.200",
        "yes",
    )
    assert cells(Measurement(name="a", seconds=1.0, most_seconds=5.0)) == ("a", "1.000", "", "", "5 s", "yes")


def test_the_first_call_warms_up() -> None:
    called: list[int] = []
    assert typical(called.append, 3) < 1.0
    assert called == [0, 1, 2, 3]


def test_measurements_take_turns_and_their_first_round_is_left_out() -> None:
    slow, quick = iter([9.0, 1.0, 3.0, 2.0]), iter([0.0, 6.0, 5.0, 4.0])
    told: list[str] = []

    def measure(name: str, seconds: Iterator[float]) -> float:
        told.append(name)
        return next(seconds)

    medians = in_turn([lambda: measure("slow", slow), lambda: measure("quick", quick)], 3)
    assert medians == [2.0, 5.0]
    assert told == ["slow", "quick"] * 4


def test_both_ways_to_batches_give_the_same_ones(prepared: WindowedData) -> None:
    stacked, rows = prepared.dataset(torch.device("cpu")), prepared.split.validation[::-1].copy()
    gathered, sliced = (list(ways(stacked, rows)) for ways in (data_bench.gathered_batches, data_bench.sliced_batches))
    assert [len(y_B) for _, y_B in gathered] == [256, 256, 256, len(rows) - 3 * 256]
    for ours, theirs in zip(gathered, sliced, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


def test_arch_simulates_the_market_that_ours_is_compared_with() -> None:
    days = data_bench.arch_days(2_000)
    volatility = days["volatility"].to_numpy()
    z = days["data"].to_numpy() / volatility
    # Both start from another variance, which is forgotten after a thousand days.
    ours = np.sqrt(variances(SP500, z))
    np.testing.assert_allclose(ours[1_500:-1], volatility[1_500:], rtol=1e-5)


def test_what_loading_is_compared_with_is_taken_in_anew_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_bench, "TIMES", 1)
    row = data_bench.snapshot(tmp_path)
    manifests = sorted(path.relative_to(tmp_path).parts for path in tmp_path.rglob("manifest.json"))
    assert [place for place, *_ in manifests] == ["0", "1", "known"]
    assert len({digest for _, digest, _ in manifests}) == 1
    assert row.ratio is not None


def test_a_copied_run_reads_like_one_that_was_written(store_root: Path) -> None:
    store = open_store(store_root)
    experiment = store.experiment("e")
    write_trial(store, experiment, 0, {"n": 0, "lr": 0.5})
    (original,) = query.runs(store, kinds=("trial",)).to_dict("records")
    copy = Copy(name="0001", params={"n": "1"}, tags={"tag_00": "other"}, metrics={"val_loss": 0.25})
    add_copies(store.database, original["run_id"], [copy])
    first, second = query.runs(store, kinds=("trial",)).to_dict("records")
    assert first == original
    changed = {"name": "0001", "n": 1, "tag_00": "other", "val_loss": 0.25, "started": original["started"] + 1}
    assert second == {**original, **changed, "run_id": second["run_id"]}
    assert store.client.get_run(second["run_id"]).data.metrics["val_loss"] == 0.25
    curves = query.histories(store, [first["run_id"], second["run_id"]], "epoch/val_loss")
    assert len(curves[second["run_id"]]) == 100
