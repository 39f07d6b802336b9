"""An AMQP 1.0 broker that serves the unmodified azure-servicebus SDK as Service Bus does."""
