"""`kvl-rl doctor`: what a machine lacks, found before a run does."""
