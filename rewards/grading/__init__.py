"""Whether a final answer meets the gold answer."""
