"""What trading on the predictions would have earned, after costs.

The only room of analysis that reads bars.
"""
