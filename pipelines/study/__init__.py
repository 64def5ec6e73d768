"""Several sweeps as one resumable study: budgets by horizons.

Knows sweeps, not trials.
"""
