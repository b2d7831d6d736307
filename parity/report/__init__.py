"""A result as text, as data, and as a page."""
