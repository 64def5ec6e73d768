"""Several sweeps as one resumable study: budgets by horizons."""
