"""Takes jobs, runs them, answers; heartbeats, uploads, health."""
