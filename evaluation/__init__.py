"""Sampling and grading any set of problems: eval, grade, rate, curate."""
