"""AMQP 1.0's types as bytes."""
