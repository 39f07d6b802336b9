"""What operators do: look at streams, replay them, manage keys, migrate."""
