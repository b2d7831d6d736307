"""Which differences of maths, weights or preprocessing explain a gap."""
