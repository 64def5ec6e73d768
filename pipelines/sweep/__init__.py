"""One search at one budget and horizon: propose, dispatch, record, resume.

The only importer of optuna.
"""
