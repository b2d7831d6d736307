"""Measurements of one runtime against the reference, in units of measured rounding."""
