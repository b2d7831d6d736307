"""Measurements: whole processes, side by side in one run."""
