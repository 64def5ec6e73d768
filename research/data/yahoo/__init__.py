"""The Yahoo client: session, requests, parsing and errors.

The only room that opens a network connection.
"""
