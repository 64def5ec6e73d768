"""One trial at a time, in the driver's own process: the simplest to follow, and the same to the bit every time."""

from __future__ import annotations

from pipelines.executors.base import EpochCallback
from pipelines.trial.context import Context
from pipelines.trial.job import StackResult, Team
from pipelines.trial.trial import run_team


class InProcess:
    """Runs the submitted team when it is waited for."""

    def __init__(self, context: Context):
        self._context = context.on_device()
        self._team: Team | None = None

    @property
    def slots(self) -> int:
        """One."""
        return 1

    def submit(self, team: Team) -> None:
        """Remember the team."""
        assert self._team is None
        self._team = team

    def wait(self, watcher: EpochCallback) -> StackResult:
        """Run it."""
        team, self._team = self._team, None
        assert team is not None
        return StackResult(team=team, finished=run_team(self._context, team, watcher.on_epoch))

    def close(self) -> None:
        """Nothing outlives a call."""
