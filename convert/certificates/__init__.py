"""Certificates: what was certified of a model, and whether a file still is that; no framework."""
