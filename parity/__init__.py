"""Proof: the same input through every runtime, compared tap by tap with a float64 reference."""
