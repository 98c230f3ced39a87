"""The iteration: problems in, trained weights out."""
