"""Image files to what a model takes: the one evaluation preprocessing."""
