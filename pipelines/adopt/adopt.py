"""`make adopt`: import results of an earlier study as runs with outcome `adopted`, separate from native results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from research.errors import InputError, require

if TYPE_CHECKING:
    from pipelines.adopt.writer import FileResult, SourceFile
    from research.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class AdoptOptions:
    """Read console logs, trial lists and CSV experiment logs of an earlier study into the store.

    Sizes are recounted by formula; a second import adds no duplicates.

    examples:
      make adopt PATHS='old/hpo_runner.log old/results'
      tapescale adopt old/hpo_runner.log old/results
    """

    paths: Positional[tuple[Path, ...]] = ()
    """Files, or folders, of which all files are read."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store; `MLFLOW_TRACKING_URI` names a server instead."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A file in none of the known forms."""

    name: str
    reason: str


def files_of(paths: tuple[Path, ...]) -> list[Path]:
    """Return the distinct files of the paths and of their folders. Raise `InputError` if a path has no files."""
    require(bool(paths), "PATHS", "", "give the files to adopt, or their folder.")
    files: dict[Path, Path] = {}
    for path in paths:
        require(path.exists(), "PATHS", path, "no such file or folder; give an existing one.")
        inside = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        require(bool(inside), "PATHS", path, "there are no files in this folder; give another one.")
        for file in inside:
            files.setdefault(file.resolve(), file)
    return list(files.values())


def read(path: Path) -> SourceFile | Refused:
    """Read the records of a file, without writing."""
    from pipelines.adopt.formats import parse
    from pipelines.adopt.numbers import UnreadableError
    from pipelines.adopt.writer import source_file

    try:
        content = path.read_bytes()
        return source_file(path.name, content, parse(content, path.stem))
    except (UnreadableError, OSError) as error:
        return Refused(name=path.name, reason=str(error))


def adopt(sources: list[SourceFile], store: Store) -> list[FileResult]:
    """Write the new trials. Files that only repeat a study's best trial come last, after the trial itself."""
    from pipelines.adopt.trial_list import BEST_FORM
    from pipelines.adopt.writer import Adoption, only_adoption

    with only_adoption(store):
        adoption = Adoption(store)
        return [adoption.take(source) for source in sorted(sources, key=lambda source: source.form == BEST_FORM)]


def main(options: AdoptOptions) -> None:
    """Read and adopt all files; print for each file the adopted trials and the reasons for the others."""
    files = files_of(options.paths)

    from pipelines.adopt.table import print_file
    from pipelines.adopt.writer import SourceFile
    from research.cli.console import console, print_line
    from research.cli.next_steps import print_next
    from research.tracking.store import open_store

    screen = console(150)
    read_files = [read(path) for path in files]
    sources = [file for file in read_files if isinstance(file, SourceFile)]
    results = adopt(sources, open_store(options.store)) if sources else []
    for result in results:
        print_file(result, screen)
    for file in read_files:
        if isinstance(file, Refused):
            print_line(screen, f"{file.name}: refused, {file.reason}\n", markup=False)
    if not sources:
        raise InputError(
            f"PATHS={' '.join(map(str, options.paths))}: nothing here could be read; give files of an earlier study."
        )
    adopted, known = sum(len(result.adopted) for result in results), sum(len(result.known) for result in results)
    rejected = sum(len(result.source.rejections) for result in results)
    refused = len(files) - len(sources)
    print_line(screen, f"adopted {adopted}, repeated {known}, not taken {rejected}; files refused {refused}")
    print_next(screen, options.store, "make leaderboard ADOPTED=1", "make ui")
