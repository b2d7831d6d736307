"""What :mod:`tests.fuzzing` gives to the readers: seeds, damage to them, and what peers read."""
