"""What a checkpoint folder holds besides the model: its files as they are read and written."""
