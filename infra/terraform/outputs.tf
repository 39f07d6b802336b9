output "resource_group_name" {
  description = "Resource group of the environment."
  value       = azurerm_resource_group.this.name
}

output "url" {
  description = "URL of the API."
  value       = "https://${var.edge == null ? module.app_service.app_host_name : module.edge.host_name}/api"
}

output "app_name" {
  description = "Name of the function app, to which a release is deployed."
  value       = module.app_service.app_name
}

output "sandbox_name" {
  description = "Name of the sandbox host's web app; null if it runs elsewhere."
  value       = module.app_service.sandbox_name
}

output "registry" {
  description = "Registry of the images: resource ID and host name, to be used as another environment's shared_registry."
  value       = local.registry
}

output "key_vault_name" {
  description = "Name of the vault with the application's secrets."
  value       = module.security.key_vault_name
}

output "database" {
  description = "What an operator needs to sign in to PostgreSQL: host, database, administrator, and the application's login."
  value = {
    host          = module.database.fqdn
    name          = module.database.database
    administrator = var.database_administrator.principal_name
    app_login     = module.security.identities["app"].name
  }
}

output "service_bus_namespace" {
  description = "Host name of the Service Bus namespace."
  value       = module.messaging.fully_qualified_namespace
}

output "service_bus_entities" {
  description = "Queues, topics and subscriptions with their settings."
  value       = module.messaging.entities
}

output "front_door_approval" {
  description = "Resource ID of the app on which Front Door's private connection must be approved once; null if there is none."
  value       = var.private && var.edge != null ? module.app_service.app_id : null
}

output "slot_url" {
  description = "URL of the slot; null if there is none."
  value       = module.app_service.slot_host_name == null ? null : "https://${module.app_service.slot_host_name}"
}

output "release_client_id" {
  description = "Client ID for the release's azure/login (AZURE_CLIENT_ID); null without var.release."
  value       = one(azurerm_user_assigned_identity.release[*].client_id)
}
