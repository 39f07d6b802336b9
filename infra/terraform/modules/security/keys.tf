# Keys are made through Azure Resource Manager, which the vault's firewall does not concern, so that
# the plan can be applied from anywhere. `azurerm_key_vault_key` would call the vault itself, which
# refuses everyone outside of the network once it is private.
locals {
  # No expiry: PostgreSQL uses a fixed version of its key, and would stop once that expired.
  rotation = {
    attributes      = {}
    lifetimeActions = [{ action = { type = "rotate" }, trigger = { timeAfterCreate = "P1Y" } }]
  }
}

resource "azurerm_resource_group_template_deployment" "key" {
  for_each = var.customer_managed_keys

  name                = "key-${var.name}-${each.key}"
  resource_group_name = var.resource_group_name
  deployment_mode     = "Incremental"
  tags                = var.tags

  template_content = jsonencode({
    "$schema"      = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
    contentVersion = "1.0.0.0"
    resources = [{
      type       = "Microsoft.KeyVault/vaults/keys"
      apiVersion = "2023-07-01"
      name       = "${azurerm_key_vault.this.name}/${each.key}"
      tags       = var.tags
      properties = {
        kty            = "RSA"
        keySize        = 3072
        keyOps         = ["wrapKey", "unwrapKey"]
        rotationPolicy = local.rotation
      }
    }]
    outputs = {
      versionless = {
        type  = "string"
        value = "[reference(resourceId('Microsoft.KeyVault/vaults/keys', '${azurerm_key_vault.this.name}', '${each.key}')).keyUri]"
      }
      versioned = {
        type  = "string"
        value = "[reference(resourceId('Microsoft.KeyVault/vaults/keys', '${azurerm_key_vault.this.name}', '${each.key}')).keyUriWithVersion]"
      }
    }
  })

  # Without the key, the data encrypted with it is lost.
  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_role_assignment" "encryption" {
  count = length(var.customer_managed_keys) > 0 ? 1 : 0

  description          = "Wraps and unwraps the keys of data at rest"
  scope                = azurerm_key_vault.this.id
  role_definition_name = "Key Vault Crypto Service Encryption User"
  principal_id         = azurerm_user_assigned_identity.this["encryption"].principal_id
  principal_type       = "ServicePrincipal"
}

# It may take minutes until every service knows a new role assignment; until then, creating encrypted
# services fails.
resource "time_sleep" "role_known" {
  count = length(var.customer_managed_keys) > 0 ? 1 : 0

  create_duration = "180s"
  depends_on      = [azurerm_role_assignment.encryption]
}

# Signs the seals of the event log. The application may sign with it, and nobody can read it.
resource "azurerm_resource_group_template_deployment" "seals" {
  name                = "key-${var.name}-seals"
  resource_group_name = var.resource_group_name
  deployment_mode     = "Incremental"
  tags                = var.tags

  template_content = jsonencode({
    "$schema"      = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
    contentVersion = "1.0.0.0"
    resources = [{
      type       = "Microsoft.KeyVault/vaults/keys"
      apiVersion = "2023-07-01"
      name       = "${azurerm_key_vault.this.name}/seals"
      tags       = var.tags
      properties = {
        kty            = "EC"
        curveName      = "P-256"
        keyOps         = ["sign", "verify"]
        rotationPolicy = local.rotation
      }
    }]
  })
}
