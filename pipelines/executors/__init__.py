"""Where trials run: in this process, in local processes or on Ray.

The only importer of ray; knows no sampler.
"""
