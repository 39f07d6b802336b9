output "id" {
  description = "Resource ID of the namespace."
  value       = azurerm_servicebus_namespace.this.id
}

output "fully_qualified_namespace" {
  description = "Host name of the namespace, for the application's setting."
  value       = "${azurerm_servicebus_namespace.this.name}.servicebus.windows.net"
}

output "queue_ids" {
  description = "Resource IDs of the queues, by name."
  value       = { for name, queue in azurerm_servicebus_queue.this : name => queue.id }
}

output "topic_ids" {
  description = "Resource IDs of the topics, by name."
  value       = { for name, topic in azurerm_servicebus_topic.this : name => topic.id }
}

output "subscription_ids" {
  description = "Resource IDs of the subscriptions, by topic/name."
  value       = { for key, subscription in azurerm_servicebus_subscription.this : key => subscription.id }
}

output "entities" {
  description = "Queues, topics and subscriptions, with their settings."
  value = {
    queues        = { for name, queue in azurerm_servicebus_queue.this : name => { lock = queue.lock_duration, deliveries = queue.max_delivery_count, ttl = queue.default_message_ttl, dead_letters_expired = queue.dead_lettering_on_message_expiration } }
    topics        = { for name, topic in azurerm_servicebus_topic.this : name => { ttl = topic.default_message_ttl } }
    subscriptions = { for key, subscription in azurerm_servicebus_subscription.this : key => { lock = subscription.lock_duration, deliveries = subscription.max_delivery_count, ttl = subscription.default_message_ttl, dead_letters_expired = subscription.dead_lettering_on_message_expiration } }
  }
}
