"""The public face: the console command and what a notebook imports.

Nothing heavy is imported until it is used.
"""
