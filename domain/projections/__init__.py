"""Read models: rows of intents, and what computes the others from the log."""
