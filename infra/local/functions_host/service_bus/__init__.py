"""Triggers of messages."""
