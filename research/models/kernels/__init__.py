"""Fast kernels for narrow nets, each with a PyTorch equivalent.

Knows tensors only.
"""
