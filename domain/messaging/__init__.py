"""Service Bus: envelopes, publisher, relay."""
