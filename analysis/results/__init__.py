"""Numbers from runs: frontiers, uncertainty, verdicts, effects.

Nothing here prints or draws.
"""
