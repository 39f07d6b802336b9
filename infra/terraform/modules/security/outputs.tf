output "identities" {
  description = "The identities app, sandbox and encryption: resource ID, client ID, principal ID and name."
  value = {
    for key, identity in azurerm_user_assigned_identity.this : key => {
      id           = identity.id
      client_id    = identity.client_id
      principal_id = identity.principal_id
      name         = identity.name
    }
  }
}

output "key_vault_id" {
  description = "Resource ID of the Key Vault."
  value       = azurerm_key_vault.this.id
}

output "key_vault_name" {
  description = "Name of the Key Vault."
  value       = azurerm_key_vault.this.name
}

output "encryption_keys" {
  description = "For each key, its identifiers with and without version, and the identity that may use it."
  value = {
    for name, deployment in azurerm_resource_group_template_deployment.key : name => {
      versionless = jsondecode(deployment.output_content).versionless.value
      versioned   = jsondecode(deployment.output_content).versioned.value
      identity_id = azurerm_user_assigned_identity.this["encryption"].id
    }
  }
  depends_on = [time_sleep.role_known]
}

output "seal_key" {
  description = "The key that signs seals of the event log: its URL, and the resource ID for grants."
  value = {
    url = "https://${azurerm_key_vault.this.name}.vault.azure.net/keys/seals"
    id  = "${azurerm_key_vault.this.id}/keys/seals"
  }
  depends_on = [azurerm_resource_group_template_deployment.seals]
}
