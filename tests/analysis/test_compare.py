"""Names find the runs that are meant, and a verdict is given only where it was earned."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import compare as verb
from analysis.options import CompareOptions
from analysis.results.frontier import Frontier, frontiers
from analysis.results.model_pairs import compare
from research.errors import InputError
from research.tracking.store import Store, open_store
from tests.support.small_store import add_run

UNKNOWN = [("200K", "or one of 2K, 20K, logistic, prior"), ("ab", "no model or run has an id")]


@pytest.fixture
def store(store_root: Path) -> Store:
    """Two budgets and two baselines at two horizons."""
    store = open_store(store_root)
    for horizon in (1, 3):
        add_run(store, "0000 d4 L2 h1 ff2", budget="2K", loss=0.50, horizon=horizon, skilful=0.3)
        add_run(store, "0000 d8 L2 h1 ff2", budget="20K", loss=0.501, horizon=horizon)
        add_run(store, "prior", kind="baseline", loss=0.69, horizon=horizon)
        add_run(store, "logistic", kind="baseline", loss=0.51, horizon=horizon, skilful=0.1)
    return store


@pytest.fixture
def found(store: Store) -> list[Frontier]:
    return frontiers(store, None)


def test_budgets_are_compared_at_every_horizon_and_corrected_for_that(store: Store, found: list[Frontier]) -> None:
    one, three = compare(store, found, "2k", "20000")
    assert (one.first.horizon, three.first.horizon) == (1, 3)
    assert one.tests.difference.mean == pytest.approx(-0.001)
    raw = sorted((one.tests.dm.p_value, three.tests.dm.p_value))
    assert sorted((one.holm_p, three.holm_p))[0] == pytest.approx(min(1, 2 * raw[0]))
    assert one.verdict == "no difference shown"


def test_a_clear_difference_is_named_by_its_better_side(store: Store, found: list[Frontier]) -> None:
    assert {one.verdict for one in compare(store, found, "prior", "20K")} == {"20K better"}
    assert {one.verdict for one in compare(store, found, "20K", "prior")} == {"20K better"}


def test_a_run_is_found_by_its_first_letters_and_its_horizon(store: Store, found: list[Frontier]) -> None:
    run_id = found[1].entries[0].run_id
    (one,) = compare(store, found, run_id[:10], "logistic")
    assert (one.first.run_id, one.first.horizon, one.second.title) == (run_id, 3, "logistic")
    assert one.holm_p == one.tests.dm.p_value


def test_two_runs_of_different_questions_are_refused(store: Store, found: list[Frontier]) -> None:
    with pytest.raises(InputError, match="its labels are not those of"):
        compare(store, found, found[0].entries[0].run_id, found[1].entries[0].run_id)


@pytest.mark.parametrize(
    ("name", "match"), [("200K", "or one of 2K, 20K, logistic, prior"), ("ab", "no model or run has an id")]
)
def test_an_unknown_name_is_answered_with_the_known_ones(store: Store, found: list[Frontier], name: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        compare(store, found, name, "2K")


def test_the_verb_says_what_the_days_could_have_shown(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    verb.main(CompareOptions(store=store.root, models=("2K", "20K")))
    told = capsys.readouterr().out
    assert "that these days can show: no evidence, not evidence of equality" in told
    assert "The best trial of a budget was chosen on these days" in told


def test_without_names_the_verb_prints_the_confidence_sets(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    verb.main(CompareOptions(store=store.root))
    told = capsys.readouterr().out
    rows = [line.split() for line in told.splitlines() if line.startswith((" prior", " 20K", " 2K"))]
    assert {row[0]: row[-1] for row in rows} == {"prior": "no", "20K": "yes", "2K": "yes"}
    assert told.count("model confidence set over 4 models, 400 days") == 2


def test_one_name_is_one_too_few(store: Store) -> None:
    with pytest.raises(InputError, match="MODELS=2K: give two"):
        verb.main(CompareOptions(store=store.root, models=("2K",)))
