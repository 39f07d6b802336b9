"""Service Bus: publishes the log, takes messages in, looks after those that fail."""
