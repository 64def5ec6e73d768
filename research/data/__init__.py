"""Bars from a source to an immutable snapshot: read, validate, adjust, digest.

No features, no labels; only `yahoo` opens a socket.
"""
