output "profile_id" {
  description = "Resource ID of the Front Door profile; null without one."
  value       = one(azurerm_cdn_frontdoor_profile.this[*].id)
}

output "profile_guid" {
  description = "What Front Door puts into X-Azure-FDID, by which the application knows it; null without one."
  value       = one(azurerm_cdn_frontdoor_profile.this[*].resource_guid)
}

output "host_name" {
  description = "Host name that clients call; null without a Front Door."
  value       = one(azurerm_cdn_frontdoor_endpoint.this[*].host_name)
}
