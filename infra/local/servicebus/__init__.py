"""An AMQP 1.0 broker that the unmodified azure-servicebus SDK takes for Service Bus."""
