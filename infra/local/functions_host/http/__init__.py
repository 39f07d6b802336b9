"""Triggers of requests."""
