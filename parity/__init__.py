"""Proof: the same input through every runtime, compared tap by tap with a float64 reference.

May import all other packages; each framework is imported only where it runs.
"""
