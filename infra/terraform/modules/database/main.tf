locals {
  # Parameters that the application's schema and followers depend on; the others keep Azure's defaults.
  configuration = {
    "azure.extensions"         = "VECTOR"
    "require_secure_transport" = "on"
    "ssl_min_protocol_version" = "TLSv1.2"
    # An open transaction in any database of the server keeps committed events from being read.
    "idle_in_transaction_session_timeout" = "60000"
    "log_checkpoints"                     = "on"
    "log_connections"                     = "on"
    "log_disconnections"                  = "on"
    "connection_throttle.enable"          = "on"
  }

  operator_networks = var.private ? {} : { for index, cidr in var.operator_cidrs : "operators-${index}" => cidr }
}

resource "azurerm_postgresql_flexible_server" "this" {
  #checkov:skip=CKV2_AZURE_57:endpoints.tf of the root module makes the endpoints of all services
  name                = "psql-${var.name}-${var.suffix}"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags

  version           = var.server.version
  sku_name          = var.server.sku
  storage_mb        = var.server.storage_mb
  auto_grow_enabled = true

  backup_retention_days         = var.server.backup_days
  geo_redundant_backup_enabled  = var.server.geo_redundant_backup #checkov:skip=CKV_AZURE_136:Each environment chooses; with customer-managed keys it would need a vault in the paired region
  public_network_access_enabled = !var.private

  authentication {
    active_directory_auth_enabled = true
    password_auth_enabled         = false
    tenant_id                     = var.tenant_id
  }

  dynamic "high_availability" {
    for_each = var.server.high_availability ? ["ZoneRedundant"] : []
    content {
      mode = high_availability.value
    }
  }

  dynamic "customer_managed_key" {
    for_each = var.encryption_key[*]
    content {
      key_vault_key_id                  = customer_managed_key.value.versioned
      primary_user_assigned_identity_id = customer_managed_key.value.identity_id
    }
  }

  dynamic "identity" {
    for_each = var.encryption_key[*]
    content {
      type         = "UserAssigned"
      identity_ids = [identity.value.identity_id]
    }
  }

  maintenance_window {
    day_of_week  = 0
    start_hour   = 3
    start_minute = 0
  }

  lifecycle {
    prevent_destroy = true
    # Azure chooses the zones, and swaps them at a failover.
    ignore_changes = [zone, high_availability[0].standby_availability_zone]

    precondition {
      condition     = !(var.server.geo_redundant_backup && var.encryption_key != null)
      error_message = "server.geo_redundant_backup with a customer-managed key needs a second key in the paired region, which this module does not make: switch one of them off."
    }
  }
}

resource "azurerm_postgresql_flexible_server_active_directory_administrator" "this" {
  resource_group_name = var.resource_group_name
  server_name         = azurerm_postgresql_flexible_server.this.name
  tenant_id           = var.tenant_id
  object_id           = var.administrator.object_id
  principal_name      = var.administrator.principal_name
  principal_type      = var.administrator.principal_type
}

resource "azurerm_postgresql_flexible_server_configuration" "this" {
  for_each = local.configuration

  server_id = azurerm_postgresql_flexible_server.this.id
  name      = each.key
  value     = each.value
}

resource "azurerm_postgresql_flexible_server_database" "this" {
  name      = "qlp"
  server_id = azurerm_postgresql_flexible_server.this.id
  charset   = "UTF8"
  collation = "en_US.utf8"

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_postgresql_flexible_server_firewall_rule" "this" {
  for_each = local.operator_networks

  name             = each.key
  server_id        = azurerm_postgresql_flexible_server.this.id
  start_ip_address = cidrhost(each.value, 0)
  end_ip_address   = cidrhost(each.value, -1)
}
