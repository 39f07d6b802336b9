# Everything is refused except what is listed. Programs in the sandbox have no network at all; these
# rules limit what a program could reach if it broke out into the host.
locals {
  endpoints_range = local.ranges[2]

  # Without private endpoints, services are reached at their public addresses.
  app_services     = var.private ? [] : ["AppService", "AzureKeyVault", "ServiceBus", "Storage"]
  sandbox_services = var.private ? [] : ["AppService", "AzureContainerRegistry", "ServiceBus", "Storage"]

  rules = {
    app = merge(
      {
        to-endpoints = { priority = 100, direction = "Outbound", access = "Allow", from = local.ranges[0], to = local.endpoints_range, ports = ["443", "5432", "5671"] }
        to-identity  = { priority = 110, direction = "Outbound", access = "Allow", from = local.ranges[0], to = "AzureActiveDirectory", ports = ["443"] }
        to-monitor   = { priority = 120, direction = "Outbound", access = "Allow", from = local.ranges[0], to = "AzureMonitor", ports = ["443"] }
      },
      { for index, tag in local.app_services : "to-${lower(tag)}" => { priority = 130 + index, direction = "Outbound", access = "Allow", from = local.ranges[0], to = tag, ports = ["443", "5671"] } },
      var.app_https_egress ? {
        to-https = { priority = 200, direction = "Outbound", access = "Allow", from = local.ranges[0], to = "Internet", ports = ["443"] }
      } : {},
    )

    sandbox = merge(
      {
        to-endpoints = { priority = 100, direction = "Outbound", access = "Allow", from = local.ranges[1], to = local.endpoints_range, ports = ["443", "5671"] }
        to-monitor   = { priority = 120, direction = "Outbound", access = "Allow", from = local.ranges[1], to = "AzureMonitor", ports = ["443"] }
      },
      { for index, tag in local.sandbox_services : "to-${lower(tag)}" => { priority = 130 + index, direction = "Outbound", access = "Allow", from = local.ranges[1], to = tag, ports = ["443", "5671"] } },
      var.sandbox_sessions ? {
        # The session pool's data plane has no service tag of its own.
        to-sessions = { priority = 190, direction = "Outbound", access = "Allow", from = local.ranges[1], to = "AzureCloud", ports = ["443"] }
      } : {},
      var.sandbox_package_egress ? {
        to-packages = { priority = 200, direction = "Outbound", access = "Allow", from = local.ranges[1], to = "Internet", ports = ["80", "443"] }
      } : {},
    )

    endpoints = merge(
      {
        from-app     = { priority = 100, direction = "Inbound", access = "Allow", from = local.ranges[0], to = local.endpoints_range, ports = ["443", "5432", "5671"] }
        from-sandbox = { priority = 110, direction = "Inbound", access = "Allow", from = local.ranges[1], to = local.endpoints_range, ports = ["443", "5671"] }
      },
      { for index, cidr in var.operator_cidrs : "from-operators-${index}" => { priority = 120 + index, direction = "Inbound", access = "Allow", from = cidr, to = local.endpoints_range, ports = ["443", "5432", "5671"] } },
    )
  }

  refusals = {
    refuse-in  = { priority = 4096, direction = "Inbound", access = "Deny", from = "*", to = "*", ports = null }
    refuse-out = { priority = 4096, direction = "Outbound", access = "Deny", from = "*", to = "*", ports = null }
  }

  all_rules = merge([
    for subnet, rules in local.rules : {
      for name, rule in merge(rules, local.refusals) : "${subnet}/${name}" => merge(rule, { subnet = subnet, name = name })
    }
  ]...)
}

resource "azurerm_network_security_group" "this" {
  for_each = local.subnets

  name                = "nsg-${var.name}-${each.key}"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_network_security_rule" "this" {
  for_each = local.all_rules

  name                        = each.value.name
  resource_group_name         = var.resource_group_name
  network_security_group_name = azurerm_network_security_group.this[each.value.subnet].name

  priority                   = each.value.priority
  direction                  = each.value.direction
  access                     = each.value.access
  protocol                   = each.value.ports == null ? "*" : "Tcp"
  source_address_prefix      = each.value.from
  source_port_range          = "*"
  destination_address_prefix = each.value.to
  destination_port_range     = each.value.ports == null ? "*" : null
  destination_port_ranges    = each.value.ports
}

resource "azurerm_subnet_network_security_group_association" "this" {
  for_each = local.subnets

  subnet_id                 = azurerm_subnet.this[each.key].id
  network_security_group_id = azurerm_network_security_group.this[each.key].id
}
