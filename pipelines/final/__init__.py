"""Train the best trial again and open the test set once.

Moves no alias of the registry.
"""
