"""Runs in the sandbox: tokens, heartbeats, live output, inputs, artifacts, behaviour."""
