"""Train one model on several devices.

Same trainer, sharded; nothing outside `training` is needed.
"""
