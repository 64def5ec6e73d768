"""Train the best trial again and open the test set once.

Never moves `champion`: promotion does.
"""
