"""The event log: append, read, follow, transfer; streams of intents."""
