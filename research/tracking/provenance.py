"""Provenance of a run: commit, uncommitted changes, packages, hardware."""

from __future__ import annotations

import getpass
import json
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from research.tracking import schema

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "numpy", "pandas", "pyarrow", "optuna", "mlflow", "scikit-learn", "lightgbm", "scipy", "TA-Lib", "arch")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Provenance of a process, recorded once and put on every run that it writes."""

    commit: str
    """Full hash, or `unknown` outside a git checkout."""
    diff: str
    """Uncommitted changes to tracked files."""
    untracked: tuple[str, ...]
    """New source files that no commit holds."""
    packages: dict[str, str]
    hardware: dict[str, str | int]

    @property
    def dirty(self) -> bool:
        """Whether the code that ran differs from the commit."""
        return bool(self.diff or self.untracked)

    def tags(self, program: str) -> dict[str, str]:
        """Return the tags of a run that `program` writes."""
        return {
            schema.GIT_COMMIT: self.commit,
            schema.GIT_DIRTY: str(self.dirty).lower(),
            schema.SOURCE_COMMIT: self.commit,
            schema.SOURCE_NAME: program,
            schema.USER: getpass.getuser(),
        }

    def write(self, folder: Path) -> None:
        """Write package versions, hardware and uncommitted changes as files."""
        record = {
            "git_commit": self.commit,
            "git_dirty": self.dirty,
            "untracked": list(self.untracked),
            "packages": self.packages,
            "hardware": self.hardware,
        }
        (folder / "environment.json").write_text(json.dumps(record, indent=2) + "\n")
        if self.diff:
            (folder / "uncommitted.diff").write_text(self.diff)


def provenance(hardware: dict[str, str | int]) -> Provenance:
    """Read git and the installed packages now."""
    # An installed package may lie in a repository that is not the project's.
    inside = _git("rev-parse", "--show-toplevel") == str(PROJECT)
    untracked = _git("ls-files", "--others", "--exclude-standard", "--", "*.py", "*.toml") if inside else ""
    return Provenance(
        commit=(_git("rev-parse", "HEAD") if inside else "") or "unknown",
        diff=_git("diff", "HEAD") if inside else "",
        untracked=tuple(untracked.splitlines()),
        packages={name: number for name in PACKAGES if (number := _version(name))},
        hardware=hardware,
    )


def _git(*arguments: str) -> str:
    try:
        ran = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
