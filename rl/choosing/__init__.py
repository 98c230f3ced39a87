"""Which problems an iteration trains on."""
