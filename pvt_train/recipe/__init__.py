"""Recipes: the keys, read from YAML and options, checked, and compared with those of a run."""
