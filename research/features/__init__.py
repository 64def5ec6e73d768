"""Feature columns from bars, each causal, in named and versioned sets.

No labels and no torch.
"""
