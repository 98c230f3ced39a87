"""The files of a run: records, metrics, trackers, checkpoints, and what the terminal shows."""
