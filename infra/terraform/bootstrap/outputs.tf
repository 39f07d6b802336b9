output "backend_files" {
  description = "For each state, the content of its file environments/NAME.backend.hcl."
  value = {
    for name, container in azurerm_storage_container.state : name => <<-HCL
      resource_group_name  = "${azurerm_resource_group.this.name}"
      storage_account_name = "${azurerm_storage_account.states.name}"
      container_name       = "${container.name}"
      key                  = "qlp.tfstate"
      use_azuread_auth     = true
    HCL
  }
}

output "client_ids" {
  description = "For each GitHub environment (infrastructure-NAME, plan-NAME), the client ID for azure/login (AZURE_CLIENT_ID)."
  value       = { for key, identity in azurerm_user_assigned_identity.deployer : key => identity.client_id }
}

output "tenant_id" {
  description = "The tenant ID for azure/login (AZURE_TENANT_ID)."
  value       = data.azurerm_client_config.current.tenant_id
}
