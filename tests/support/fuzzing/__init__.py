"""Damaged files for the readers: seeds, damage to them, what peers read, and who judges it."""
