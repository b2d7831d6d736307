"""Where images come from, and what of them is known: files, folders, tars, their classes."""
