# Against mistakes of an owner; Terraform itself is stopped by prevent_destroy.
locals {
  locked = var.locks_enabled ? {
    database    = module.database.id
    key-vault   = module.security.key_vault_id
    service-bus = module.messaging.id
  } : {}
}

resource "azurerm_management_lock" "this" {
  for_each = local.locked

  name       = "keep-${each.key}"
  scope      = each.value
  lock_level = "CanNotDelete"
  notes      = "Holds data of ${local.name}. Remove the lock on purpose, with locks_enabled = false."

  # Locked last: a lock also prevents changes to what is attached to a resource.
  depends_on = [azurerm_private_endpoint.this, azurerm_monitor_diagnostic_setting.this]
}
