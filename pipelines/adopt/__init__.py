"""Import the results of an earlier study as runs of their own kind.

Trains nothing; a run is imported once.
"""
