"""Progress of running sweeps: throughput, stalls and disk.

Reads the store and changes nothing.
"""
