"""Checks that the platform works: controls, baselines, doctor and tour.

No other room may import from here.
"""
