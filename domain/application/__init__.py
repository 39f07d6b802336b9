"""The use cases: commands, their handler, the process manager, admission."""
