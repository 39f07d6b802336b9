"""Connections, sessions and links of the broker."""
