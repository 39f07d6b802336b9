"""HTTP connections to others, and pauses between tries."""
