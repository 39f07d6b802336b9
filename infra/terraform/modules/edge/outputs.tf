output "profile_id" {
  description = "Resource ID of the Front Door profile; null if there is none."
  value       = one(azurerm_cdn_frontdoor_profile.this[*].id)
}

output "profile_guid" {
  description = "The value of X-Azure-FDID by which the application recognises Front Door; null if there is none."
  value       = one(azurerm_cdn_frontdoor_profile.this[*].resource_guid)
}

output "host_name" {
  description = "Host name that clients call; null if there is none."
  value       = one(azurerm_cdn_frontdoor_endpoint.this[*].host_name)
}
