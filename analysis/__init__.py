"""Read runs: the verbs that compare, fit and draw.

No torch; writes only runs of kind forecast and report.
"""
