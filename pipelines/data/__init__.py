"""Take bars in as a snapshot and load the task that a verb asks for.

Trains nothing.
"""
