"""Projections that follow the log, page by page."""
