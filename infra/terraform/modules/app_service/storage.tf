# For leases and timers of the functions host, and for the seals of the event log.
resource "azurerm_storage_account" "host" {
  #checkov:skip=CKV_AZURE_33:Classic queue logging needs account keys; diagnostic settings log the same
  #checkov:skip=CKV_AZURE_43:The name is built from parts that variables.tf limits
  #checkov:skip=CKV_AZURE_206:Leases and timers can be lost; var.storage_replication sets replication over zones
  #checkov:skip=CKV2_AZURE_33:endpoints.tf of the root module makes the endpoints of all services
  name                = "st${replace(var.name, "-", "")}${var.suffix}"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags

  account_tier             = "Standard"
  account_kind             = "StorageV2"
  account_replication_type = var.storage_replication

  shared_access_key_enabled        = false
  default_to_oauth_authentication  = true
  allow_nested_items_to_be_public  = false
  cross_tenant_replication_enabled = false
  local_user_enabled               = false
  https_traffic_only_enabled       = true
  min_tls_version                  = "TLS1_2"     # the highest minimum that can be set; 1.3 is negotiated first
  public_network_access_enabled    = !var.private #checkov:skip=CKV_AZURE_59:Closed where var.private is true; else only the application's subnet is let in

  blob_properties {
    delete_retention_policy {
      days = 7
    }

    container_delete_retention_policy {
      days = 7
    }
  }

  network_rules {
    default_action             = "Deny"
    bypass                     = ["AzureServices"]
    virtual_network_subnet_ids = var.private ? [] : [var.subnet_ids.app]
  }

  dynamic "customer_managed_key" {
    for_each = var.encryption_key[*]
    content {
      key_vault_key_id          = customer_managed_key.value.versionless
      user_assigned_identity_id = customer_managed_key.value.identity_id
    }
  }

  dynamic "identity" {
    for_each = var.encryption_key[*]
    content {
      type         = "UserAssigned"
      identity_ids = [identity.value.identity_id]
    }
  }
}

# Where seals of the event log are kept, out of reach of the database's owner.
resource "azurerm_storage_container" "seals" {
  #checkov:skip=CKV2_AZURE_21:diagnostics.tf of the root module logs the blobs of the whole account
  name                  = "seals"
  storage_account_id    = azurerm_storage_account.host.id
  container_access_type = "private"
}

# Blobs can be neither changed nor deleted. Not locked, so that an environment can be destroyed; for
# production, docs/deploy.md says how to lock it for good.
resource "azurerm_storage_container_immutability_policy" "seals" {
  storage_container_resource_manager_id = azurerm_storage_container.seals.id
  immutability_period_in_days           = 3650
  protected_append_writes_enabled       = false
  protected_append_writes_all_enabled   = false
}
