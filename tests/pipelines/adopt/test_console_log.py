from __future__ import annotations

import pytest

from pipelines.adopt import console_log
from pipelines.adopt.record import LegacyStudy, Record
from pipelines.adopt.size import size_of

AT = "[I 2024-03-01 10:00:00,000]"
LATER = "[I 2024-03-01 10:01:30,500]"
STUDY = "[1/2] Starting: hpo_5M_h3_touch_2pct.py"


def begun(number: int, rest: str = "params=1,216,769, lr=0.000500, epochs=30, batch_size=16", time: str = AT) -> str:
    return f"{time} Trial {number}: arch_idx=3, d_model=128, n_layers=6, {rest}"


def finished(number: int, value: str, best: str | None = None, extra: str = "") -> str:
    settings = "{'learning_rate': 0.0005000123, 'epochs': 30, 'batch_size': 16" + extra + "}"
    told = f"Trial {number} finished with value: {value} and parameters: {settings}."
    return f"{LATER} {told} Best is trial 0 with value: {best or value}."


def records(*lines: str) -> list[Record]:
    parsed = console_log.parse("\n".join(lines))
    assert parsed.rejections == []
    return parsed.records


def test_the_start_line_gives_the_shape_and_the_result_line_the_exact_settings() -> None:
    (one,) = records(STUDY, begun(0), finished(0, "0.41234567890123456"))
    assert one.study == LegacyStudy(budget="5M", horizon=3, task="touch_2pct")
    assert (one.outcome, one.metric, one.value) == ("complete", "val_loss", 0.41234567890123456)
    assert one.params["learning_rate"] == 0.0005000123
    assert (one.params["d_model"], one.params["n_layers"], one.params["batch_size"]) == (128, 6, 16)
    assert one.stated_size == 1_216_769
    assert one.metrics["legacy_seconds"] == 90.5
    assert (one.place, one.number) == ("line 3", 0)


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("params=1,216,769, lr=0.0005, epochs=30, batch_size=16", {"batch_size": 16}),
        ("n_heads=8, params=1,216,769, lr=0.0005, epochs=30, batch_size=16", {"n_heads": 8, "batch_size": 16}),
        (
            "n_heads=4, params=1,216,769, lr=0.0005, epochs=30, batch=64x2, dropout=0.25",
            {"n_heads": 4, "batch_size": 64, "legacy_accumulation": 2, "dropout": 0.25},
        ),
    ],
)
def test_all_variants_of_the_start_line_are_read(rest: str, expected: dict[str, float]) -> None:
    (one,) = records(STUDY, begun(7, rest))
    assert one.stated_size == 1_216_769
    assert expected.items() <= one.params.items()
    assert "learning_rate" in one.params


def test_the_sentinel_and_nan_are_divergence_and_no_loss() -> None:
    found = records(
        STUDY, begun(0), finished(0, "0.4"), begun(1), finished(1, "1e+02", "0.4"), begun(2), finished(2, "nan", "0.4")
    )
    assert [one.outcome for one in found] == ["complete", "diverged", "diverged"]
    assert [one.value for one in found] == [0.4, None, None]
    assert "1e+02" in found[1].notes["reason"]


def test_a_failed_and_a_pruned_trial_are_kept_with_what_is_known() -> None:
    error = "because of the following error: RuntimeError('no memory')."
    failed = f"[W 2024-03-01 10:02:00,000] Trial 0 failed with parameters: {{'learning_rate': 0.001}} {error}"
    found = records(
        STUDY, begun(0), failed, "[W 2024-03-01 10:02:00,001] Trial 0 failed with value None.", f"{AT} Trial 1 pruned. "
    )
    assert [one.outcome for one in found] == ["failed", "pruned"]
    assert found[0].notes["reason"] == "RuntimeError('no memory')."
    assert found[0].params["learning_rate"] == 0.001


def test_a_start_without_a_finish_was_interrupted() -> None:
    found = records(STUDY, begun(0), finished(0, "0.4"), begun(1), "[1/2] PASSED: hpo_5M_h3_touch_2pct.py")
    assert [(one.number, one.outcome, one.place) for one in found] == [(0, "complete", "line 3"), (1, "interrupted", "line 4")]
    assert [one.outcome for one in records(STUDY, begun(0), begun(0), finished(0, "0.4"))] == ["interrupted", "complete"]


def test_each_study_ends_where_the_next_begins() -> None:
    second = "[2/2] Starting: hpo_50M_h1_touch_2pct.py"
    found = records(STUDY, begun(0), finished(0, "0.4"), begun(1), second, begun(1), finished(1, "0.5"))
    assert [(one.study.budget, one.number, one.outcome) for one in found] == [
        ("5M", 0, "complete"),
        ("5M", 1, "interrupted"),
        ("50M", 1, "complete"),
    ]


def test_the_study_line_adds_the_phase() -> None:
    named = f"{AT} A new study created in memory with name: phase9b_5M_h3_touch_2pct_5M"
    (one,) = records(STUDY, named, begun(0), finished(0, "0.4"))
    assert one.study == LegacyStudy(phase="phase9b", budget="5M", horizon=3, task="touch_2pct")


def test_trials_that_no_line_gives_to_a_study_are_rejected_with_their_lines() -> None:
    parsed = console_log.parse("\n".join([begun(0), finished(0, "0.4"), STUDY, begun(1), finished(1, "0.3")]))
    assert [one.number for one in parsed.records] == [1]
    assert [one.place for one in parsed.rejections] == ["line 1", "line 2"]
    assert all("Starting" in one.reason for one in parsed.rejections)


def test_nothing_after_the_end_of_a_study_is_taken_for_it() -> None:
    parsed = console_log.parse("\n".join([STUDY, begun(0), finished(0, "0.4"), "[1/2] FAILED: hpo_5M.py", finished(1, "0.3")]))
    assert [one.number for one in parsed.records] == [0]
    assert [one.place for one in parsed.rejections] == ["line 5"]


def test_values_of_a_study_that_looked_for_the_largest_are_no_losses() -> None:
    found = records(STUDY, begun(0), finished(0, "0.7"), begun(1), finished(1, "0.6", best="0.7"))
    assert {one.metric for one in found} == {"legacy_value"}
    found = records(STUDY, begun(0), finished(0, "0.7"), begun(1), finished(1, "0.8", best="0.7"))
    assert {one.metric for one in found} == {"val_loss"}
    assert found[0].assumed == ()
    (alone,) = records(STUDY, begun(0), finished(0, "0.7"))
    assert alone.assumed == ("metric=val_loss",)


def test_a_result_line_that_is_cut_off_is_rejected_and_its_trial_is_not_called_interrupted() -> None:
    parsed = console_log.parse("\n".join([STUDY, begun(0), f"{AT} Trial 0 finished with value: 0.4 and param"]))
    assert parsed.records == []
    assert [(one.place, one.reason) for one in parsed.rejections] == [("line 3", "a result line that is cut off or garbled")]
    unreadable = console_log.parse("\n".join([STUDY, begun(0), finished(0, "0.4", extra=", 'x': nan")]))
    assert [one.reason for one in unreadable.rejections] == ["its parameters cannot be read"]


def test_colours_and_carriage_returns_of_a_terminal_do_not_matter() -> None:
    coloured = finished(0, "0.4").replace(LATER, f"\x1b[32m{LATER}\x1b[0m") + "\r"
    assert records(STUDY + "\r", begun(0) + "\r", coloured) == records(STUDY, begun(0), finished(0, "0.4"))


@pytest.mark.parametrize(("stated", "ratio"), [("1,200,000", 4), ("800,000", 2)])
def test_the_stated_count_tells_the_feed_forward_width_that_the_log_leaves_out(stated: str, ratio: int) -> None:
    (one,) = records(STUDY, begun(0, f"params={stated}, lr=0.0005"))
    size = size_of(one)
    assert size.d_ff == ratio * 128
    assert f"d_ff={ratio * 128} by the stated count" in size.assumed


def test_a_stated_count_that_fits_no_width_leaves_the_size_uncounted() -> None:
    (one,) = records(STUDY, begun(0, "params=5,000,000, lr=0.0005"))
    assert (size_of(one).counted, size_of(one).claim) == (None, "not countable")
    (small,) = records(STUDY, f"{AT} Trial 0: d_model=4, n_layers=1, params=1,309, lr=0.0005")
    assert size_of(small).counted is None
