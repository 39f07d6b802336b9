"""What operators do: look at streams, verify, rebuild, replay, export and import."""
