"""From text to the answer it commits to and the value that it names."""
