"""Figures, drawn from numbers that are given.

No store is read here.
"""
