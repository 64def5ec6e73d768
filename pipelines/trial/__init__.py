"""One job becomes one run: train an architecture and record it.

Knows neither the sampler nor the other trials of its sweep.
"""
