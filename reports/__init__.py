"""Pages made from the files of a run."""
