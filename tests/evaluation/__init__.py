"""Measures how well sentences become programs, and that near misses never share one."""
