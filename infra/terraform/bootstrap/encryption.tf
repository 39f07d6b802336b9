resource "azurerm_user_assigned_identity" "encryption" {
  name                = "id-${local.name}-encryption"
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  tags                = local.tags
}

resource "azurerm_key_vault" "states" {
  #checkov:skip=CKV_AZURE_189:Bootstrap is run from a listed network; there is no private one yet
  #checkov:skip=CKV2_AZURE_32:It exists before any network does
  name                = "kv-${var.project}-tfstate-${local.suffix}"
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  tenant_id           = data.azurerm_client_config.current.tenant_id
  sku_name            = "standard"
  tags                = local.tags

  rbac_authorization_enabled = true
  purge_protection_enabled   = true
  soft_delete_retention_days = 90

  network_acls {
    default_action = "Deny"
    bypass         = "AzureServices" # the storage service fetches the key
    ip_rules       = var.allowed_cidrs
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_role_assignment" "operator_keys" {
  description          = "Whoever runs bootstrap makes the key"
  scope                = azurerm_key_vault.states.id
  role_definition_name = "Key Vault Crypto Officer"
  principal_id         = data.azurerm_client_config.current.object_id
}

resource "azurerm_role_assignment" "encryption" {
  description          = "The states' account wraps and unwraps its key"
  scope                = azurerm_key_vault.states.id
  role_definition_name = "Key Vault Crypto Service Encryption User"
  principal_id         = azurerm_user_assigned_identity.encryption.principal_id
  principal_type       = "ServicePrincipal"
}

# It may take minutes until every service knows a new role assignment.
resource "time_sleep" "roles_known" {
  create_duration = "180s"
  depends_on      = [azurerm_role_assignment.operator_keys, azurerm_role_assignment.encryption]
}

resource "azurerm_key_vault_key" "states" {
  #checkov:skip=CKV_AZURE_40:The key rotates and does not expire: states that cannot be read are an outage
  #checkov:skip=CKV_AZURE_112:A software key of the vault; an HSM's needs a Premium vault
  name         = "tfstate"
  key_vault_id = azurerm_key_vault.states.id
  key_type     = "RSA"
  key_size     = 3072
  key_opts     = ["wrapKey", "unwrapKey"]
  tags         = local.tags

  rotation_policy {
    automatic {
      time_after_creation = "P1Y"
    }
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [time_sleep.roles_known]
}
