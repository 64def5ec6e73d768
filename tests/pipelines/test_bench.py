from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.bench import cells
from pipelines.benches.bulk import Copy, add_copies
from pipelines.benches.row import Row, typical
from pipelines.benches.tracking import write_trial
from research.tracking import query
from research.tracking.store import open_store


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row(name="a", seconds=1.0, reference=8.0, most_ratio=1 / 8), True),
        (Row(name="a", seconds=1.1, reference=8.0, most_ratio=1 / 8), False),
        (Row(name="a", seconds=5.0, most_seconds=5.0), True),
        (Row(name="a", seconds=5.1, most_seconds=5.0), False),
        (Row(name="a", seconds=1.0, reference=8.0), None),
    ],
)
def test_a_target_is_met_up_to_its_value(row: Row, met: bool | None) -> None:
    assert row.met is met
    assert cells(row)[-1] == {True: "yes", False: "no", None: ""}[met]


def test_a_row_shows_its_ratio_and_its_target() -> None:
    assert cells(Row(name="a", seconds=1.0, reference=8.0, most_ratio=0.2)) == ("a", "1.000", "8.000", "0.125", "0.200", "yes")
    assert cells(Row(name="a", seconds=1.0, most_seconds=5.0)) == ("a", "1.000", "", "", "5 s", "yes")


def test_the_first_call_warms_up() -> None:
    called: list[int] = []
    assert typical(called.append, 3) < 1.0
    assert called == [0, 1, 2, 3]


def test_a_copied_run_reads_like_one_that_was_written(store_root: Path) -> None:
    store = open_store(store_root)
    experiment = store.experiment("e")
    write_trial(store, experiment, 0, {"n": 0, "lr": 0.5})
    (original,) = query.trials(store).to_dict("records")
    copy = Copy(name="0001", params={"n": "1"}, tags={"tag_00": "other"}, metrics={"val_loss": 0.25})
    add_copies(store.database, original["run_id"], [copy])
    first, second = query.trials(store).to_dict("records")
    assert first == original
    changed = {"name": "0001", "n": 1, "tag_00": "other", "val_loss": 0.25, "started": original["started"] + 1}
    assert second == {**original, **changed, "run_id": second["run_id"]}
    assert store.client.get_run(second["run_id"]).data.metrics["val_loss"] == 0.25
    curves = query.histories(store, [first["run_id"], second["run_id"]], "epoch/val_loss")
    assert len(curves[second["run_id"]]) == 100
