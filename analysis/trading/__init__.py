"""What acting on stored probabilities would have earned: the label's own trade, its costs, and how sure that is."""
