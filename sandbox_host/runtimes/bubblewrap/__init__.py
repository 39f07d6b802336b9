"""Boxes of bubblewrap: namespaces without an engine."""
