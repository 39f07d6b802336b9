# One private endpoint per service: for all services if the environment is private, else only for the
# database, which has no other way to admit the application and nobody else.
locals {
  private_dns_zones = {
    database      = "privatelink.postgres.database.azure.com"
    key-vault     = "privatelink.vaultcore.azure.net"
    service-bus   = "privatelink.servicebus.windows.net"
    registry      = "privatelink.azurecr.io"
    storage-blob  = "privatelink.blob.core.windows.net"
    storage-queue = "privatelink.queue.core.windows.net"
    storage-table = "privatelink.table.core.windows.net"
    sites         = "privatelink.azurewebsites.net"
  }

  endpoint_services = var.private ? toset(keys(local.private_dns_zones)) : toset(["database"])

  private_targets = merge(
    {
      database      = { zone = "database", subresource = "postgresqlServer", id = module.database.id }
      key-vault     = { zone = "key-vault", subresource = "vault", id = module.security.key_vault_id }
      service-bus   = { zone = "service-bus", subresource = "namespace", id = module.messaging.id }
      registry      = { zone = "registry", subresource = "registry", id = local.registry.id }
      storage-blob  = { zone = "storage-blob", subresource = "blob", id = module.app_service.storage_account_id }
      storage-queue = { zone = "storage-queue", subresource = "queue", id = module.app_service.storage_account_id }
      storage-table = { zone = "storage-table", subresource = "table", id = module.app_service.storage_account_id }
      app           = { zone = "sites", subresource = "sites", id = module.app_service.app_id }
    },
    local.sandbox_on_plan ? {
      sandbox = { zone = "sites", subresource = "sites", id = module.app_service.sandbox_id }
    } : {},
    var.slot == null ? {} : {
      app-slot = { zone = "sites", subresource = "sites-${var.slot}", id = module.app_service.app_id }
    },
    var.slot != null && local.sandbox_on_plan ? {
      sandbox-slot = { zone = "sites", subresource = "sites-${var.slot}", id = module.app_service.sandbox_id }
    } : {},
  )
}

resource "azurerm_private_endpoint" "this" {
  for_each = { for key, target in local.private_targets : key => target if contains(local.endpoint_services, target.zone) }

  name                          = "pe-${local.name}-${each.key}"
  location                      = var.location.name
  resource_group_name           = azurerm_resource_group.this.name
  subnet_id                     = module.networking.subnet_ids["endpoints"]
  custom_network_interface_name = "nic-${local.name}-${each.key}"
  tags                          = local.tags

  private_service_connection {
    name                           = each.key
    private_connection_resource_id = each.value.id
    subresource_names              = [each.value.subresource]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "default"
    private_dns_zone_ids = [module.networking.private_dns_zone_ids[each.value.zone]]
  }
}
