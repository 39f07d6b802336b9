output "workspace_id" {
  description = "Resource ID of the Log Analytics workspace."
  value       = azurerm_log_analytics_workspace.this.id
}

output "action_group_id" {
  description = "Resource ID of the action group that alerts go to."
  value       = azurerm_monitor_action_group.this.id
}

output "application_insights_id" {
  description = "Resource ID of Application Insights."
  value       = azurerm_application_insights.this.id
}

output "application_insights_connection_string" {
  description = "Connection string for telemetry, with which it can only be written."
  value       = azurerm_application_insights.this.connection_string
  sensitive   = true
}
