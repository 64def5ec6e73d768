"""Two tables of docs/data.md are what the code says; `python tests/research/data/test_data_page.py` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import pytest

from research.data.validation_rules import ALLOWABLE, KINDS, RULES, Rule
from research.features.catalogue import set_sizes

PAGE = Path(__file__).parents[3] / "docs" / "data.md"
BETWEEN = r"(?<=<!-- {0} -->\n).*(?=<!-- end of {0} -->)"
FIELD = re.compile(r"\{(?:c\.)?([\w.]+)[^}]*\}")
RULE_HEAD = "| rule | what it says | stops | warns | `ALLOW` |\n|---|---|---|---|---|\n"
SET_HEAD = (
    "| `FEATURES=` | columns | more with `INDEX` | more with `VOLATILITY_INDEX` | first complete session, without and with |\n"
    "|---|---|---|---|---|\n"
)


def rule_table() -> str:
    return RULE_HEAD + "".join(f"| {' | '.join(cells_of(name, rule))} |\n" for name, rule in RULES.items())


def cells_of(name: str, rule: Rule) -> tuple[str, ...]:
    says = FIELD.sub(lambda field: f"*{re.sub('[._]', ' ', field[1])}*", rule.message)
    stops = rule.stops & rule.kinds
    allowed = "" if not stops else "yes" if name in ALLOWABLE else "never"
    return f"`{name}`", says, kinds_text(stops), kinds_text(rule.kinds - stops), allowed


def kinds_text(kinds: Collection[str]) -> str:
    if not kinds:
        return ""
    others = sorted(KINDS - set(kinds))
    if not others:
        return "all"
    return ", ".join(sorted(kinds)) if len(kinds) <= len(others) else f"all but {', '.join(others)}"


def set_table() -> str:
    rows = [
        (f"`{size.name}`", size.own, size.index or "", size.volatility_index or "", f"{size.own_warm_up}, {size.whole_warm_up}")
        for size in set_sizes()
    ]
    return SET_HEAD + "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)


TABLES = {"rules": rule_table, "feature sets": set_table}


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_the_table_of_the_code(name: str):
    found = re.search(BETWEEN.format(name), PAGE.read_text(), re.DOTALL)
    assert found is not None
    assert found[0] == TABLES[name](), "run python tests/research/data/test_data_page.py"


def write() -> None:
    page = PAGE.read_text()
    for name, table in TABLES.items():
        page = re.sub(BETWEEN.format(name), table(), page, flags=re.DOTALL)
    PAGE.write_text(page)


if __name__ == "__main__":
    write()
