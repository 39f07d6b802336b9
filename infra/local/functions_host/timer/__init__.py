"""Triggers of time."""
