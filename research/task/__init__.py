"""A task: bars, features, targets and a split become windows on a device.

Windows never leave this room unsplit; no model and no store is known here.
"""
