"""What of the model trains, and by which optimizer."""
