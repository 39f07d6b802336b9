locals {
  # The embedded broker reads the same file, in the format of Microsoft's emulator, with // comments.
  entities = jsondecode(replace(file("${path.module}/servicebus.json"), "/(?m)//[^\"\\n]*$/", "")).UserConfig.Namespaces[0]

  queues = { for queue in local.entities.Queues : queue.Name => queue.Properties }
  topics = { for topic in local.entities.Topics : topic.Name => topic.Properties }
  subscriptions = merge([
    for topic in local.entities.Topics : {
      for subscription in topic.Subscriptions : "${topic.Name}/${subscription.Name}" => merge(
        subscription.Properties, { topic = topic.Name, name = subscription.Name }
      )
    }
  ]...)

  premium = var.namespace.sku == "Premium"
}

resource "azurerm_servicebus_namespace" "this" {
  name                = "sb-${var.name}-${var.suffix}"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags

  sku                          = var.namespace.sku
  capacity                     = local.premium ? var.namespace.capacity : 0
  premium_messaging_partitions = local.premium ? 1 : 0

  # No shared access keys: clients sign in with their identities.
  local_auth_enabled            = false
  minimum_tls_version           = "1.2"        # the highest minimum that can be set
  public_network_access_enabled = !var.private #checkov:skip=CKV_AZURE_204:Closed where var.private is true; a Standard namespace has no private endpoint

  dynamic "customer_managed_key" {
    for_each = var.encryption_key[*]
    content {
      key_vault_key_id                  = customer_managed_key.value.versionless
      identity_id                       = customer_managed_key.value.identity_id
      infrastructure_encryption_enabled = true
    }
  }

  dynamic "identity" {
    for_each = var.encryption_key[*]
    content {
      type         = "UserAssigned"
      identity_ids = [identity.value.identity_id]
    }
  }

  # Unfinished intents can be published again from the log, but dead letters exist only here.
  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_servicebus_queue" "this" {
  for_each = local.queues

  name         = each.key
  namespace_id = azurerm_servicebus_namespace.this.id

  lock_duration                        = each.value.LockDuration
  max_delivery_count                   = each.value.MaxDeliveryCount
  default_message_ttl                  = each.value.DefaultMessageTimeToLive
  dead_lettering_on_message_expiration = each.value.DeadLetteringOnMessageExpiration
  requires_duplicate_detection         = each.value.RequiresDuplicateDetection
  requires_session                     = each.value.RequiresSession
}

resource "azurerm_servicebus_topic" "this" {
  for_each = local.topics

  name         = each.key
  namespace_id = azurerm_servicebus_namespace.this.id

  default_message_ttl          = each.value.DefaultMessageTimeToLive
  requires_duplicate_detection = each.value.RequiresDuplicateDetection
}

resource "azurerm_servicebus_subscription" "this" {
  for_each = local.subscriptions

  name     = each.value.name
  topic_id = azurerm_servicebus_topic.this[each.value.topic].id

  lock_duration                        = each.value.LockDuration
  max_delivery_count                   = each.value.MaxDeliveryCount
  default_message_ttl                  = each.value.DefaultMessageTimeToLive
  dead_lettering_on_message_expiration = each.value.DeadLetteringOnMessageExpiration
  requires_session                     = each.value.RequiresSession
}
