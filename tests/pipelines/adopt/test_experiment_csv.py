from __future__ import annotations

import csv
import io
import json

import pytest

from pipelines.adopt import console_log, experiment_csv
from pipelines.adopt.formats import parse
from pipelines.adopt.numbers import UnreadableError
from pipelines.adopt.record import LegacyStudy, Parsed, fingerprints

ROW = {
    "timestamp": "",
    "experiment": "phase9b_5M_h3_touch_2pct",
    "phase": "phase9b",
    "budget": "5M",
    "task": "touch_2pct",
    "horizon": "3.0",
    "script_path": "jobs/hpo_5M_h3_touch_2pct.py",
    "run_type": "hpo",
    "status": "success",
    "duration_seconds": "321.5",
    "val_loss": "0.41234567890123456",
    "test_accuracy": "",
    "hyperparameters": json.dumps({"learning_rate": 0.0005000123, "batch_size": 16, "note": {"a": [1, 2]}}),
    "error_message": "",
    "d_model": "128.0",
    "n_layers": "6.0",
    "n_heads": "8.0",
    "d_ff": "512.0",
    "param_count": "1216769.0",
}


def text(*changes: dict[str, str]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(ROW))
    writer.writeheader()
    writer.writerows([{**ROW, **change} for change in changes])
    return out.getvalue()


def read(*changes: dict[str, str]) -> Parsed:
    return parse(text(*changes).encode(), "results")


def test_integers_written_as_floats_are_integers_and_json_in_a_cell_is_read() -> None:
    (one,) = read({}).records
    assert (one.params["d_model"], one.params["n_layers"], one.params["d_ff"]) == (128, 6, 512)
    assert all(type(one.params[name]) is int for name in ("d_model", "n_layers", "n_heads", "d_ff", "batch_size"))
    assert (one.stated_size, one.study.horizon) == (1_216_769, 3)
    assert one.params["learning_rate"] == 0.0005000123
    assert one.params["legacy_note"] == '{"a": [1, 2]}'
    assert (one.metric, one.value) == ("val_loss", 0.41234567890123456)
    assert one.metrics == {"legacy_seconds": 321.5}


def test_blank_cells_stay_blank() -> None:
    first, second = read({"d_model": "", "d_ff": "", "param_count": ""}, {"timestamp": "2024-03-01T10:00:00"}).records
    assert "d_model" not in first.params
    assert first.stated_size is None
    assert "legacy_timestamp" not in first.notes
    assert second.notes["legacy_timestamp"] == "2024-03-01T10:00:00"


def test_trainings_and_searches_are_told_apart_and_an_accuracy_is_no_loss() -> None:
    search, training = read({}, {"run_type": "training", "val_loss": "", "test_accuracy": "0.81"}).records
    assert (search.notes["legacy_run_type"], training.notes["legacy_run_type"]) == ("hpo", "training")
    assert (training.metric, training.value) == ("test_accuracy", 0.81)


@pytest.mark.parametrize(
    "smoke",
    [
        {"experiment": "smoke_5M_touch_2pct"},
        {"run_type": "smoke"},
        {"script_path": "jobs/hpo_smoke-test.py"},
        {"phase": "dry_run"},
    ],
)
def test_smoke_runs_are_not_taken(smoke: dict[str, str]) -> None:
    parsed = read({}, smoke, {"val_loss": "0.5"})
    assert [one.place for one in parsed.records] == ["line 2", "line 4"]
    assert [(one.place, one.reason) for one in parsed.rejections] == [("line 3", "a smoke run")]


def test_a_name_that_only_contains_the_word_is_no_smoke_run() -> None:
    assert read({"experiment": "phase9b_backtested_5M", "script_path": "tests/hpo_contest_5M.py"}).rejections == []


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"status": "failed", "val_loss": "", "error_message": "out of memory"}, "failed"),
        ({"status": "timeout", "val_loss": ""}, "interrupted"),
        ({"val_loss": "100.0"}, "diverged"),
        ({"val_loss": "nan"}, "diverged"),
    ],
)
def test_rows_without_a_loss_keep_their_outcome(change: dict[str, str], outcome: str) -> None:
    (one,) = read(change).records
    assert (one.outcome, one.metric, one.value) == (outcome, None, None)
    assert one.notes["reason"]


def test_rows_that_cannot_be_taken_are_named_by_line() -> None:
    changes = ({"val_loss": ""}, {"status": "?"}, {"hyperparameters": "{'a': 1}"}, {"d_model": "1,28"}, {"horizon": "1.5"})
    parsed = read(*changes, {})
    assert [one.place for one in parsed.rejections] == [f"line {line}" for line in (2, 3, 4, 5, 6)]
    assert [one.place for one in parsed.records] == ["line 7"]
    short = parse((text({}) + "one,two\n").encode(), "results")
    assert [one.reason for one in short.rejections] == ["2 cells, the header has 19"]


def test_a_row_written_twice_is_one_trial_and_other_rows_are_others() -> None:
    first, again, other = fingerprints(read({}, {"timestamp": "2024-03-01T10:00:00"}, {"val_loss": "0.5"}).records)
    assert first == again != other
    failed = {"status": "failed", "val_loss": "", "hyperparameters": ""}
    one, two = fingerprints(read({**failed, "timestamp": "2024-03-01"}, {**failed, "timestamp": "2024-03-02"}).records)
    assert one != two
    odd, even = fingerprints(read({**failed, "hyperparameters": '{"x": NaN}'}, {**failed, "hyperparameters": "{}"}).records)
    assert odd != even


def test_a_row_and_a_console_log_tell_of_the_same_trial() -> None:
    log = console_log.parse(
        "[1/2] Starting: hpo_5M_h3_touch_2pct.py\n"
        "[I 2024-03-01 10:00:00,000] Trial 4: arch_idx=3, d_model=128, n_layers=6, params=1,216,769, lr=0.000500\n"
        "[I 2024-03-01 10:01:00,000] Trial 4 finished with value: 0.41234567890123456 and parameters: "
        "{'learning_rate': 0.0005000123}. Best is trial 4 with value: 0.41234567890123456.\n"
    )
    assert fingerprints(log.records) == fingerprints(read({}).records)
    assert read({}).records[0].study == LegacyStudy(phase="phase9b", budget="5M", horizon=3, task="touch_2pct")


@pytest.mark.parametrize(
    "content", [b"", b"# Notes\nhello\n", b"a,b\n1,2\n", b'{"x": 1}', b"[1, 2", b"\x89PNG\x00\xff", b"[]", b"x" * 200_000]
)
def test_an_unknown_form_is_refused_with_the_known_ones_named(content: bytes) -> None:
    with pytest.raises(UnreadableError, match=experiment_csv.FORM):
        parse(content, "file")
