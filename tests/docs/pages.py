"""Pages of the documentation as programs: their fenced blocks, and a copy of the checkout to run them in.

```sh                      is run, block by block, in the copy's root; it must succeed
```sh fails                must end with an error
```sh no-run: <reason>     is not run; its `make` commands must still be ones that the options parser takes
```console                 lines that begin with `$ ` are run, the others are output; `fails` and `no-run` as above
```python                  is run; `no-run` as above, but it must compile
```python file=<path>      becomes that file in the copy, whatever the language
```diff                    is applied to the copy
```text                    is output
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```[ ]*$", re.DOTALL | re.MULTILINE)
LANGUAGES = ("sh", "console", "python", "diff", "text")
NO_RUN = "no-run:"


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    line: int
    file: str = ""
    """Path in the checkout that the block becomes."""
    fails: bool = False
    no_run: str = ""
    """Why it cannot be run in a test."""

    @property
    def command(self) -> str:
        """What a shell is given."""
        if self.language != "console":
            return self.text
        return "".join(f"{line[2:]}\n" for line in self.text.splitlines() if line.startswith("$ "))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in order; `ValueError` for an info string that says nothing known."""
    text = page.read_text()
    return [_block(match["info"], match["text"], text.count("\n", 0, match.start()) + 1) for match in FENCE.finditer(text)]


def _block(info: str, text: str, line: int) -> Block:
    info, marked, reason = info.partition(NO_RUN)
    language, *words = info.split() or [""]
    file = next((word.removeprefix("file=") for word in words if word.startswith("file=")), "")
    unknown = [word for word in words if word != "fails" and not word.startswith("file=")]
    if unknown or not (file or language in LANGUAGES) or (marked and not reason.strip()):
        raise ValueError(f"line {line}: ```{info}{marked}: see tests/docs/pages.py for what a fence may say")
    return Block(language=language, text=text, line=line, file=file, fails="fails" in words, no_run=reason.strip())


def checkout(folder: Path, store: Path) -> Path:
    """A copy of the working tree with an empty store of its own; it shares the environment and installs nothing."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(folder / name, (0, 0))
    shutil.copytree(store, folder / "mlruns", dirs_exist_ok=True)
    return folder


def run_page(page: Path, folder: Path, *, before: str, smaller: dict[str, str], environment: dict[str, str]) -> list[str]:
    """Do what the page says in the copy, after the commands `before`; what was not run, and why.

    `smaller` replaces text of commands.
    """
    skipped = []
    first = [Block(language="sh", text=before, line=0)] if before else []
    for block in [*first, *blocks(page)]:
        if block.no_run:
            skipped.append(f"{page.name}:{block.line}: {block.no_run}")
        elif block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language != "text":
            _run(block, f"{page.name}:{block.line}", folder, smaller, environment)
    return skipped


def _run(block: Block, place: str, folder: Path, smaller: dict[str, str], environment: dict[str, str]) -> None:
    text = block.command
    for long, short in smaller.items():
        text = text.replace(long, short)
    programs = {
        "diff": ["patch", "-p1", "--fuzz=0"],
        "python": [str(folder / ".venv/bin/python"), "-"],
    }
    command = programs.get(block.language, ["bash", "-euo", "pipefail", "-s"])
    path = f"{folder / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "COLUMNS": "110", **environment}
    # A group of its own, so that a server that the page leaves running can be stopped with it.
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(text, timeout=1800)
    finally:
        _stop_group(process.pid)
    wrong = process.returncode == 0 if block.fails else process.returncode != 0
    assert not wrong, f"{place} ended with {process.returncode}:\n{text}\n{said[-4000:]}"


def _stop_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGTERM)
    except ProcessLookupError:
        return
