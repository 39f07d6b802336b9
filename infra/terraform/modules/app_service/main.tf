resource "azurerm_service_plan" "this" {
  #checkov:skip=CKV_AZURE_211:Each environment chooses its sku; development has a small one
  #checkov:skip=CKV_AZURE_225:Set where var.plan.zone_redundant is true
  name                = "asp-${var.name}"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags

  os_type                = "Linux"
  sku_name               = var.plan.sku
  worker_count           = var.plan.workers
  zone_balancing_enabled = var.plan.zone_redundant
}
