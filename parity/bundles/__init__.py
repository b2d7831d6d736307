"""Bundles: runs in one file, made on one machine and judged on another."""
