"""Where a program comes from: submitted, or reused from a solved intent."""
