"""Entry points: each module turns one kind of trigger into calls of `domain`."""
