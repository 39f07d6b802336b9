"""Runs programs, each in a box, and sends their results."""
