"""What a sweep would cost: sizes, FLOPs, memory, hours and disk.

Trains nothing and writes nothing.
"""
