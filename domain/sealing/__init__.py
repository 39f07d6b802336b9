"""Seals: signed statements of how far the log has come, and proofs that an event is in it."""
