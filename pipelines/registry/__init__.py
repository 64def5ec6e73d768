"""Promote a tested version through its gates, or roll back.

Trains nothing.
"""
