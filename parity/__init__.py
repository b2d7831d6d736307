"""Proof: the same input through every runtime, compared tap by tap with a float64 reference."""

from pvt_packages import check_packages

check_packages(__name__)
