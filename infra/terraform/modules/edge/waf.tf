locals {
  managed_rules = var.sku == "Premium" ? {
    Microsoft_DefaultRuleSet    = { version = "2.1", exclusions = var.body_exclusions }
    Microsoft_BotManagerRuleSet = { version = "1.1", exclusions = {} }
  } : {}
}

resource "azurerm_cdn_frontdoor_firewall_policy" "this" {
  count = local.count

  name                = "waf${replace(var.name, "-", "")}"
  resource_group_name = var.resource_group_name
  sku_name            = local.sku
  tags                = var.tags

  enabled                    = true
  mode                       = var.waf_mode
  request_body_check_enabled = var.sku == "Premium" ? true : null

  custom_rule {
    name                           = "RateLimit"
    type                           = "RateLimitRule"
    action                         = "Block"
    enabled                        = true
    priority                       = 100
    rate_limit_duration_in_minutes = 1
    rate_limit_threshold           = var.rate_limit_per_minute

    # Matches every request, as each has a Host header: Azure refuses rules without a condition.
    match_condition {
      match_variable = "RequestHeader"
      selector       = "Host"
      operator       = "GreaterThanOrEqual"
      match_values   = ["0"]
    }
  }

  dynamic "custom_rule" {
    for_each = length(var.allowed_countries) > 0 ? [var.allowed_countries] : []
    content {
      name     = "Countries"
      type     = "MatchRule"
      action   = "Block"
      enabled  = true
      priority = 200

      match_condition {
        match_variable     = "SocketAddr"
        operator           = "GeoMatch"
        negation_condition = true
        match_values       = custom_rule.value
      }
    }
  }

  dynamic "managed_rule" {
    for_each = local.managed_rules
    content {
      type    = managed_rule.key
      version = managed_rule.value.version
      action  = "Block"

      dynamic "exclusion" {
        for_each = managed_rule.value.exclusions
        content {
          match_variable = "RequestBodyJsonArgNames"
          operator       = exclusion.value
          selector       = exclusion.key
        }
      }
    }
  }
}

resource "azurerm_cdn_frontdoor_security_policy" "this" {
  count = local.count

  name                     = "waf"
  cdn_frontdoor_profile_id = azurerm_cdn_frontdoor_profile.this[0].id

  security_policies {
    firewall {
      cdn_frontdoor_firewall_policy_id = azurerm_cdn_frontdoor_firewall_policy.this[0].id

      association {
        patterns_to_match = ["/*"]

        domain {
          cdn_frontdoor_domain_id = azurerm_cdn_frontdoor_endpoint.this[0].id
        }
      }
    }
  }
}
