locals {
  ranges = cidrsubnets(var.address_space, 2, 2, 2, 2)

  # Free of charge; with these, services without a private endpoint can be closed to everyone else.
  service_endpoints = {
    app     = ["Microsoft.KeyVault", "Microsoft.Storage", "Microsoft.Web"]
    sandbox = ["Microsoft.Web"]
  }

  subnets = {
    app       = { range = local.ranges[0], delegation = "Microsoft.Web/serverFarms" }
    sandbox   = { range = local.ranges[1], delegation = var.sandbox_delegation }
    endpoints = { range = local.ranges[2], delegation = null }
  }
}

resource "azurerm_network_ddos_protection_plan" "this" {
  count = var.ddos_protection ? 1 : 0

  name                = "ddos-${var.name}"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_virtual_network" "this" {
  name                = "vnet-${var.name}"
  location            = var.location
  resource_group_name = var.resource_group_name
  address_space       = [var.address_space]
  tags                = var.tags

  dynamic "ddos_protection_plan" {
    for_each = azurerm_network_ddos_protection_plan.this
    content {
      id     = ddos_protection_plan.value.id
      enable = true
    }
  }
}

resource "azurerm_subnet" "this" {
  for_each = local.subnets

  name                 = "snet-${each.key}"
  resource_group_name  = var.resource_group_name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = [each.value.range]

  default_outbound_access_enabled   = false
  private_endpoint_network_policies = each.key == "endpoints" ? "NetworkSecurityGroupEnabled" : "Disabled"
  service_endpoints                 = var.private ? null : lookup(local.service_endpoints, each.key, null)

  dynamic "delegation" {
    for_each = each.value.delegation == null ? [] : [each.value.delegation]
    content {
      name = "delegation"
      service_delegation {
        name    = delegation.value
        actions = ["Microsoft.Network/virtualNetworks/subnets/action"]
      }
    }
  }
}

resource "azurerm_public_ip" "nat" {
  count = var.sandbox_package_egress ? 1 : 0

  name                = "pip-${var.name}-nat"
  location            = var.location
  resource_group_name = var.resource_group_name
  allocation_method   = "Static"
  sku                 = "Standard"
  tags                = var.tags
}

resource "azurerm_nat_gateway" "this" {
  count = var.sandbox_package_egress ? 1 : 0

  name                = "ng-${var.name}"
  location            = var.location
  resource_group_name = var.resource_group_name
  sku_name            = "Standard"
  tags                = var.tags
}

resource "azurerm_nat_gateway_public_ip_association" "this" {
  count = var.sandbox_package_egress ? 1 : 0

  nat_gateway_id       = azurerm_nat_gateway.this[0].id
  public_ip_address_id = azurerm_public_ip.nat[0].id
}

resource "azurerm_subnet_nat_gateway_association" "sandbox" {
  count = var.sandbox_package_egress ? 1 : 0

  subnet_id      = azurerm_subnet.this["sandbox"].id
  nat_gateway_id = azurerm_nat_gateway.this[0].id
}
