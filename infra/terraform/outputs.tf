output "resource_group_name" {
  description = "Resource group of the environment."
  value       = azurerm_resource_group.this.name
}

output "url" {
  description = "Where clients call the API."
  value       = "https://${var.edge == null ? module.app_service.app_host_name : module.edge.host_name}/api"
}

output "app_name" {
  description = "Function app that a release is deployed to."
  value       = module.app_service.app_name
}

output "sandbox_name" {
  description = "Web app of the sandbox host; null where it runs elsewhere."
  value       = module.app_service.sandbox_name
}

output "registry" {
  description = "Registry that images come from: resource ID and host name, as another environment's shared_registry."
  value       = local.registry
}

output "key_vault_name" {
  description = "Vault that the application's secrets are set in."
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
  description = "Resource ID of the app on which Front Door's private connection is approved once; null without one."
  value       = var.private && var.edge != null ? module.app_service.app_id : null
}

output "slot_url" {
  description = "Where the slot answers; null without one."
  value       = module.app_service.slot_host_name == null ? null : "https://${module.app_service.slot_host_name}"
}

output "release_client_id" {
  description = "Client ID that the release's azure/login takes (AZURE_CLIENT_ID); null without var.release."
  value       = one(azurerm_user_assigned_identity.release[*].client_id)
}
