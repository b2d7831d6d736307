"""Names of tensors: the dialects as tables, their detection and translation."""
