"""Cost of a sweep: sizes, FLOPs, memory, hours and disk. Trains and writes nothing."""
