"""Package a model, answer with it in Python and over HTTP.

Knows no sweep; answers come from the registered code.
"""
