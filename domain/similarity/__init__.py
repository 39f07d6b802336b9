"""Vectors of sentences, and the search for similar ones."""
