"""What a parity run sees."""
