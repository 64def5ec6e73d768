"""One page of everything that a store shows.

Takes its numbers from `results` and computes none.
"""
