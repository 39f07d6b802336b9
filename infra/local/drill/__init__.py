"""Deletes the database of a running stack, restores it, and measures the loss and the time."""
