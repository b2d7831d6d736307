"""Graphs as they are in files, whoever wrote them: what they hold, take and answer."""
