locals {
  # One each for the application, the sandbox host, and the services that encrypt with our keys.
  identities = toset(["app", "sandbox", "encryption"])
}

resource "azurerm_user_assigned_identity" "this" {
  for_each = local.identities

  name                = "id-${var.name}-${each.key}"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_key_vault" "this" {
  #checkov:skip=CKV2_AZURE_32:endpoints.tf of the root module makes the endpoints of all services
  name                = "kv${replace(var.name, "-", "")}${var.suffix}"
  location            = var.location
  resource_group_name = var.resource_group_name
  tenant_id           = var.tenant_id
  sku_name            = "standard"
  tags                = var.tags

  rbac_authorization_enabled = true
  # Needed for customer-managed keys; cannot be switched off again.
  purge_protection_enabled      = true
  soft_delete_retention_days    = 90
  public_network_access_enabled = !var.private #checkov:skip=CKV_AZURE_189:Closed where var.private is true; development is reached from listed networks only

  network_acls {
    default_action = "Deny"
    # PostgreSQL, Service Bus and Storage fetch their keys as trusted services.
    bypass                     = "AzureServices"
    ip_rules                   = var.private ? [] : var.operator_cidrs
    virtual_network_subnet_ids = var.private ? [] : var.subnet_ids
  }

  lifecycle {
    prevent_destroy = true
  }
}
