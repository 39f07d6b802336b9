"""What the sandbox host shares with the application: jobs, heartbeats, envelopes, strict JSON."""
