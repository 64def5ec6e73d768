"""Measurements beside what others pay for the same work; not packaged.

No room of the product may import from here.
"""
