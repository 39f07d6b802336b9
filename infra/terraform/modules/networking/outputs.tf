output "virtual_network_id" {
  description = "Resource ID of the virtual network."
  value       = azurerm_virtual_network.this.id
}

output "subnet_ids" {
  description = "Resource IDs of the subnets app, sandbox and endpoints, once their security groups are in place."
  value       = { for name, subnet in azurerm_subnet.this : name => subnet.id }
  depends_on  = [azurerm_subnet_network_security_group_association.this]
}

output "private_dns_zone_ids" {
  description = "Resource IDs of the private DNS zones, by service."
  value       = { for service, zone in azurerm_private_dns_zone.this : service => zone.id }
}

output "network_security_group_ids" {
  description = "Resource IDs of the security groups, by subnet."
  value       = { for name, group in azurerm_network_security_group.this : name => group.id }
}
