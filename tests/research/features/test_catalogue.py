from __future__ import annotations

import re

import pytest

from research.errors import InputError
from research.features.catalogue import catalogue, set_sizes
from research.features.catalogue_table import CatalogueOptions, main, size_lines
from research.features.feature_sets import WHOLE_SETS


@pytest.mark.parametrize("name", WHOLE_SETS)
def test_the_catalogue_of_a_set_has_each_of_its_columns_once(name: str):
    entries = [entry for members in catalogue(name).values() for entry in members]
    assert sorted(entry.feature.name for entry in entries) == sorted(WHOLE_SETS[name].columns)
    assert all(name in entry.sets for entry in entries)


def test_a_raw_column_and_its_stationary_form_are_two_entries():
    held = {entry.feature.formula: entry.sets for entry in catalogue()["range-volatility"] if entry.feature.name == "atr_14"}
    assert set(held) == {"log(atr_14 / close)", "ATR(14)"}
    assert {"a25s", "s50", "s100"} <= set(held["log(atr_14 / close)"])
    assert held["ATR(14)"] == ("a25",)


def test_a_column_is_in_its_declared_group():
    for group, entries in catalogue().items():
        assert {entry.feature.group for entry in entries} == {group}


def test_an_unknown_set_is_refused():
    with pytest.raises(InputError, match="FEATURES=s51: no such feature set"):
        catalogue("s51")


def test_sizes_and_warm_ups_of_the_sets():
    sizes = {size.name: size for size in set_sizes()}
    widest = sizes["s100"]
    assert (widest.own, widest.index, widest.volatility_index) == (86, 7, 7)
    assert (widest.own_warm_up, widest.whole_warm_up) == (199, 252)
    assert size_lines([sizes["a25s"]]) == ["a25s: 25 columns, first complete row 199."]
    assert size_lines([sizes["s50"]]) == [
        "s50: 44 columns, first complete row 199; 3 more with an index, 3 more with a volatility index: 50, "
        "first complete row 199."
    ]


def test_the_printed_table_has_a_line_per_feature_under_counted_headings(capsys: pytest.CaptureFixture[str]):
    main(CatalogueOptions(features="s50"))
    printed = capsys.readouterr().out
    assert "calendar (2)" in printed
    assert re.search(r"overnight_return +log\(O / C\[-1\]\).* 1 +French & Roll 1986 +s50 s100", printed)
    assert "the same session's is computed 15 minutes too late" in printed
    assert "garman_klass" not in printed


def test_brackets_of_a_formula_are_not_markup(capsys: pytest.CaptureFixture[str]):
    main(CatalogueOptions(features="s100"))
    assert "log sqrt(mean [log(H / L)^2 / 2 - (2 log 2 - 1) log(C / O)^2] over 20)" in capsys.readouterr().out
