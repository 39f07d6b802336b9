"""Where a program comes from: submitted, reused from a solved intent, or written by a model."""
