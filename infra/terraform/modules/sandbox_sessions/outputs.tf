output "id" {
  description = "Resource ID of the session pool."
  value       = jsondecode(azurerm_resource_group_template_deployment.pool.output_content).id.value
}

output "endpoint" {
  description = "URL for requesting executions."
  value       = jsondecode(azurerm_resource_group_template_deployment.pool.output_content).endpoint.value
}
