"""`make adopt`: bring the results of an earlier study in as runs with outcome `adopted`, apart from native results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from research.errors import InputError, require

if TYPE_CHECKING:
    from pipelines.adopt.writer import FileResult, SourceFile
    from research.tracking.store import Store

PIPE_WIDTH = 150


@dataclass(frozen=True, kw_only=True)
class AdoptOptions:
    """Read console logs, trial lists and CSV experiment logs of an earlier study into the store.

    Sizes are recounted by formula; adopting again adds nothing twice.

    examples:
      make adopt PATHS='old/hpo_runner.log old/results'
      tapescale adopt old/hpo_runner.log old/results
    """

    paths: Positional[tuple[Path, ...]] = ()
    """Files, or folders whose files are all read."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store; `MLFLOW_TRACKING_URI` names a server instead."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A file that none of the known forms fits."""

    name: str
    reason: str


def files_of(paths: tuple[Path, ...]) -> list[Path]:
    """The files that the paths name, folders opened, each once; `InputError` before anything is written."""
    require(bool(paths), "PATHS", "", "give the files to adopt, or their folder.")
    found: dict[Path, Path] = {}
    for path in paths:
        require(path.exists(), "PATHS", path, "no such file or folder; give one that is there.")
        inside = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        require(bool(inside), "PATHS", path, "there are no files in this folder; give another one.")
        for one in inside:
            found.setdefault(one.resolve(), one)
    return list(found.values())


def read(path: Path) -> SourceFile | Refused:
    """A file's records; nothing is written yet."""
    from pipelines.adopt.formats import parse
    from pipelines.adopt.numbers import UnreadableError
    from pipelines.adopt.writer import source_file

    try:
        content = path.read_bytes()
        return source_file(path.name, content, parse(content, path.stem))
    except (UnreadableError, OSError) as problem:
        return Refused(name=path.name, reason=str(problem))


def adopt(sources: list[SourceFile], store: Store) -> list[FileResult]:
    """Write what is not there yet. Files that only repeat a study's best trial come last, after the trial itself."""
    from pipelines.adopt.trial_list import BEST_FORM
    from pipelines.adopt.writer import Adoption, only_adoption

    with only_adoption(store):
        adoption = Adoption(store)
        return [adoption.take(source) for source in sorted(sources, key=lambda one: one.form == BEST_FORM)]


def main(options: AdoptOptions) -> None:
    """Read all files, adopt, and say per file what was taken, what was not and why."""
    files = files_of(options.paths)

    from rich.console import Console

    from pipelines.adopt.table import print_file
    from pipelines.adopt.writer import SourceFile
    from research.cli.next_steps import print_next
    from research.tracking.store import open_store

    screen = Console()
    console = screen if screen.is_terminal else Console(width=PIPE_WIDTH)
    read_files = [read(path) for path in files]
    sources = [one for one in read_files if isinstance(one, SourceFile)]
    results = adopt(sources, open_store(options.store)) if sources else []
    for result in results:
        print_file(result, console)
    for one in read_files:
        if isinstance(one, Refused):
            console.print(f"{one.name}: refused, {one.reason}\n", soft_wrap=True, highlight=False, markup=False)
    if not sources:
        raise InputError(
            f"PATHS={' '.join(map(str, options.paths))}: nothing here could be read; give files of an earlier study."
        )
    adopted, known = sum(len(one.adopted) for one in results), sum(len(one.known) for one in results)
    rejected = sum(len(one.source.rejections) for one in results)
    refused = len(files) - len(sources)
    console.print(f"adopted {adopted}, repeated {known}, not taken {rejected}; files refused {refused}", highlight=False)
    print_next(console, options.store, "make leaderboard ADOPTED=1", "make ui")
