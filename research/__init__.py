"""The library: data, features, tasks, models, training, evaluation and the MLflow schema.

No module here runs a search, and only `tracking` writes to a store.
"""
