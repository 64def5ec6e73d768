"""Model families, counted parameter budgets and baselines.

No training loop and no data source.
"""
