"""Train a model, or several as one, and measure what it costs.

No store and no search; callers receive epochs through a callback.
"""
