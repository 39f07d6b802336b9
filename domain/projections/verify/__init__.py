"""Compares read models with what the log says."""
