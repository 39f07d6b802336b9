"""The ways in: each module turns one family of triggers into domain calls."""
