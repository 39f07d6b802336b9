"""Limits by cgroups, of both versions."""
