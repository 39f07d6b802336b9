output "id" {
  description = "Resource ID of the server."
  value       = azurerm_postgresql_flexible_server.this.id
}

output "name" {
  description = "Name of the server."
  value       = azurerm_postgresql_flexible_server.this.name
}

output "fqdn" {
  description = "Host name of the server."
  value       = azurerm_postgresql_flexible_server.this.fqdn
}

output "database" {
  description = "Name of the application's database."
  value       = azurerm_postgresql_flexible_server_database.this.name
}
