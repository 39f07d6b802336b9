"""The ways to make a box, and what they share."""
