locals {
  premium = var.sku == "Premium"
}

resource "azurerm_container_registry" "this" {
  #checkov:skip=CKV_AZURE_163:Scanning in the registry is enabled for a whole subscription (Defender for Containers); the pipeline scans each image
  #checkov:skip=CKV_AZURE_164:Signed images are checked before a deployment names them by digest; content trust is deprecated
  #checkov:skip=CKV_AZURE_165:One region; images can be rebuilt
  #checkov:skip=CKV_AZURE_166:Quarantine needs a scanner that releases images; the pipeline scans before it pushes
  #checkov:skip=CKV_AZURE_233:Set for Premium, the only sku that has it
  #checkov:skip=CKV_AZURE_237:A dedicated data endpoint needs Premium, and only matters with a firewall, which this network does not have
  name                = "cr${replace(var.name, "-", "")}${var.suffix}"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags

  sku                           = var.sku
  admin_enabled                 = false
  anonymous_pull_enabled        = false
  public_network_access_enabled = !var.private #checkov:skip=CKV_AZURE_139:Closed where var.private is true, which needs Premium
  retention_policy_in_days      = local.premium ? 30 : null
  zone_redundancy_enabled       = local.premium
}
