"""Certificates made of a run, and files held against them."""
