"""Scores, calibration, intervals and tests of predictions, in numpy.

No torch, no store; open to pipelines and analysis alike.
"""
