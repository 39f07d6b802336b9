"""Runs while the sandbox has them: tokens, heartbeats, live output, artifacts, behaviour."""
