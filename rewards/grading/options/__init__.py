"""Which option of a multiple-choice question an answer names."""
