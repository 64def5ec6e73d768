"""Causal feature columns computed from bars, in named and versioned sets. No labels and no torch."""
