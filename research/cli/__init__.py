"""Parse a verb's options, phrase its errors, print its tables and the commands to type next.

Knows no verb and no store.
"""
