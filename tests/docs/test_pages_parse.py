"""No page names a verb, a variable, a flag or a file that does not exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest

from research.cli.run import parsed
from research.errors import InputError
from tests.docs.pages import PAGES, ROOT, Block, blocks
from tests.support.verbs import options_of

LINK = re.compile(r"\]\((?P<target>[^)\s#]+)(?:#[^)]*)?\)")
INLINE = re.compile(r"(?<!`)`(make [^`\n]+)`(?!`)")
MAKE = re.compile(r"(?:^|[;&|(]\s*|\bnohup )((?:[A-Z_]+=\S+ )*make (?:[^;&|#\n\\]|\\\n)+)", re.MULTILINE)
VARIABLE = re.compile(r"^[A-Z_]+=?")
OTHERS = {"https", "http"}
TARGET = re.compile(r"^(?:VERBS|OTHERS) := (.*?[^\\])$", re.MULTILINE | re.DOTALL)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@every_page
def test_every_fence_says_what_it_is(page: Path):
    for block in blocks(page):
        if block.language == "python" or block.file.endswith(".py"):
            compile(block.text, f"{page.name}:{block.line}", "exec")


@every_page
def test_every_relative_link_leads_to_a_file(page: Path):
    targets = [match["target"] for match in LINK.finditer(prose(page)) if not match["target"].startswith(("http:", "https:"))]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@every_page
def test_every_command_is_one_that_its_verb_takes(page: Path):
    # Where a page changes the code, its commands mean the changed one; test_pages_run runs them there.
    changes_code = any(block.language == "diff" for block in blocks(page))
    for command in commands(page):
        verb, *settings = shlex.split(command, comments=True)[1:]
        assert verb in verbs(), f"{command}: the Makefile has no {verb}"
        for line in () if changes_code else expanded(verb, *settings).splitlines():
            takes(line, command)


def takes(line: str, command: str) -> None:
    """Require that the line's verb takes its words; a recipe that starts no verb has none."""
    words = shlex.split(line.partition("||")[0])
    if words[1:3] != ["-m", "tapescale"]:
        return
    verb, *typed = words[3:]
    try:
        parsed(options_of(verb), typed, verb)
    except (SystemExit, InputError) as error:
        pytest.fail(f"{command}: {error}")


@cache
def verbs() -> set[str]:
    return set(" ".join(TARGET.findall((ROOT / "Makefile").read_text())).replace("\\\n", " ").split())


@cache
def expanded(verb: str, *settings: str) -> str:
    """What `make` would run; the environment counts as there, so that its rules stay out of the answer."""
    done = subprocess.run(["make", "-n", "-o", ".venv/.installed", verb, *settings], cwd=ROOT, capture_output=True, text=True)
    # A variable that the verb does not read is refused here.
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("\\\n", " ")


def commands(page: Path) -> list[str]:
    """Every `make` command of a page: in blocks, run or not, and in the text where it is given with a verb."""
    in_blocks = [found for block in blocks(page) if shown(block) for found in MAKE.findall(block.command)]
    in_text = [part.strip() for found in INLINE.findall(prose(page)) for part in found.split(";")]
    return [command for command in map(str.strip, [*in_blocks, *in_text]) if definite(command)]


def shown(block: Block) -> bool:
    return block.language in ("sh", "console") and not block.file


def definite(command: str) -> bool:
    """A command to type, not a pattern: `make data DATA=<name>` and `make data SYMBOLS=...` have a hole."""
    return bool(re.match(r"make [a-z]", command)) and not re.search(r"[<>…]|\.\.\.|=(\s|$)", command)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
