"""Examines everything that the application depends on, and names the fixes."""
