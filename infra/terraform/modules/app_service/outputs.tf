output "plan_id" {
  description = "Resource ID of the App Service plan."
  value       = azurerm_service_plan.this.id
}

output "app_id" {
  description = "Resource ID of the function app."
  value       = azurerm_linux_function_app.this.id
}

output "app_name" {
  description = "Name of the function app."
  value       = azurerm_linux_function_app.this.name
}

output "app_host_name" {
  description = "Host name of the function app."
  value       = "${local.app_name}.azurewebsites.net"
}

output "sandbox_id" {
  description = "Resource ID of the sandbox host's app; null if it runs elsewhere."
  value       = one(azurerm_linux_web_app.sandbox[*].id)
}

output "sandbox_name" {
  description = "Name of the sandbox host's app; null if it runs elsewhere."
  value       = one(azurerm_linux_web_app.sandbox[*].name)
}

output "storage_account_id" {
  description = "Resource ID of the functions host's storage account."
  value       = azurerm_storage_account.host.id
}

output "seal_container_url" {
  description = "URL of the container for seals of the event log."
  value       = "https://${azurerm_storage_account.host.name}.blob.core.windows.net/${azurerm_storage_container.seals.name}"
}

output "app_slot_id" {
  description = "Resource ID of the application's slot; null if there is none."
  value       = one(azurerm_linux_function_app_slot.this[*].id)
}

output "slot_host_name" {
  description = "Host name of the application's slot; null if there is none."
  value       = var.slot == null ? null : "${local.app_name}-${var.slot}.azurewebsites.net"
}
