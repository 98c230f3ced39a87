"""New weights on their way into the engines."""
