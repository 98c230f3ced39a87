"""Rewards of others, in processes of their own that cannot end or outlive the run."""
