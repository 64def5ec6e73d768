"""Turn bars, features, targets and a split into the windows of a task.

Windows leave this package split only. Knows no model and no store.
"""
