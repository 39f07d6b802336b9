output "id" {
  description = "Resource ID of the scale set."
  value       = azurerm_linux_virtual_machine_scale_set.this.id
}

output "autoscale_id" {
  description = "Resource ID of the autoscale setting."
  value       = azurerm_monitor_autoscale_setting.this.id
}
