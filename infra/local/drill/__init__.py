"""Loses the database of a running stack on purpose, brings it back, and measures both."""
