locals {
  # Counted here, not where the module is called: the application depends on the profile, and the
  # origin on the application, but everything depends on a counted module as a whole.
  count = var.enabled ? 1 : 0
  sku   = "${var.sku}_AzureFrontDoor"
}

resource "azurerm_cdn_frontdoor_profile" "this" {
  count = local.count

  name                     = "afd-${var.name}"
  resource_group_name      = var.resource_group_name
  sku_name                 = local.sku
  response_timeout_seconds = 60 # long polls last up to 30
  tags                     = var.tags

  # Clients' addresses and query strings are not logged. API keys are in a header, which never is.
  log_scrubbing_rule {
    match_variable = "QueryStringArgNames"
  }

  log_scrubbing_rule {
    match_variable = "RequestIPAddress"
  }
}

resource "azurerm_cdn_frontdoor_endpoint" "this" {
  count = local.count

  name                     = "fde-${var.name}-${var.suffix}"
  cdn_frontdoor_profile_id = azurerm_cdn_frontdoor_profile.this[0].id
  tags                     = var.tags
}

resource "azurerm_cdn_frontdoor_origin_group" "this" {
  count = local.count

  name                     = "app"
  cdn_frontdoor_profile_id = azurerm_cdn_frontdoor_profile.this[0].id
  session_affinity_enabled = false

  health_probe {
    path                = var.origin.health_path
    protocol            = "Https"
    request_type        = "GET"
    interval_in_seconds = 100
  }

  load_balancing {
    sample_size                 = 4
    successful_samples_required = 2
  }
}

resource "azurerm_cdn_frontdoor_origin" "this" {
  count = local.count

  name                          = "app"
  cdn_frontdoor_origin_group_id = azurerm_cdn_frontdoor_origin_group.this[0].id

  host_name                      = var.origin.host_name
  origin_host_header             = var.origin.host_name
  certificate_name_check_enabled = true
  https_port                     = 443
  enabled                        = true

  dynamic "private_link" {
    for_each = var.origin_is_private ? [var.origin] : []
    content {
      private_link_target_id = private_link.value.private_link_id
      location               = private_link.value.private_location
      target_type            = "sites"
      request_message        = "Front Door of ${var.name}"
    }
  }
}

resource "azurerm_cdn_frontdoor_route" "this" {
  count = local.count

  name                          = "app"
  cdn_frontdoor_endpoint_id     = azurerm_cdn_frontdoor_endpoint.this[0].id
  cdn_frontdoor_origin_group_id = azurerm_cdn_frontdoor_origin_group.this[0].id
  cdn_frontdoor_origin_ids      = [azurerm_cdn_frontdoor_origin.this[0].id]

  # The sandbox host calls the application within the network, not through Front Door.
  patterns_to_match      = ["/api/*"]
  supported_protocols    = ["Http", "Https"] # plain HTTP is answered with a redirect
  https_redirect_enabled = true
  forwarding_protocol    = "HttpsOnly"
  link_to_default_domain = true
}
