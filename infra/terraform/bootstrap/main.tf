data "azurerm_client_config" "current" {}

locals {
  name   = "${var.project}-tfstate"
  suffix = substr(sha1("${data.azurerm_client_config.current.subscription_id}/${local.name}"), 0, 5)
  tags   = merge(var.tags, { project = var.project, managed-by = "terraform-bootstrap" })

  # Bootstrap's own state is moved here too, once the account exists.
  states = setunion(var.environments, ["bootstrap"])
}

resource "azurerm_resource_group" "this" {
  name     = "rg-${local.name}"
  location = var.location
  tags     = local.tags
}

resource "azurerm_storage_account" "states" {
  #checkov:skip=CKV_AZURE_33:Queue logging of the classic kind needs account keys, and there are no queues
  #checkov:skip=CKV_AZURE_43:The name is built from parts that variables.tf limits
  #checkov:skip=CKV_AZURE_59:Terraform is run from a listed network, or with an OpenID Connect sign-in
  #checkov:skip=CKV2_AZURE_33:It exists before any network does
  name                = "st${var.project}tfstate${local.suffix}"
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  tags                = local.tags

  account_tier             = "Standard"
  account_kind             = "StorageV2"
  account_replication_type = "GRS"

  shared_access_key_enabled         = false
  default_to_oauth_authentication   = true
  allow_nested_items_to_be_public   = false
  cross_tenant_replication_enabled  = false
  local_user_enabled                = false
  https_traffic_only_enabled        = true
  infrastructure_encryption_enabled = true
  min_tls_version                   = "TLS1_2" # the highest minimum that can be set; 1.3 is negotiated first

  blob_properties {
    versioning_enabled = true

    delete_retention_policy {
      days = 30
    }

    container_delete_retention_policy {
      days = 30
    }
  }

  network_rules {
    default_action = var.states_reachable_from_anywhere ? "Allow" : "Deny"
    bypass         = ["AzureServices"]
    ip_rules       = [for cidr in var.allowed_cidrs : trimsuffix(cidr, "/32")]
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.encryption.id]
  }

  customer_managed_key {
    key_vault_key_id          = azurerm_key_vault_key.states.versionless_id
    user_assigned_identity_id = azurerm_user_assigned_identity.encryption.id
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [time_sleep.roles_known]
}

# One container per environment: who may deploy one environment cannot read another's state.
resource "azurerm_storage_container" "state" {
  #checkov:skip=CKV2_AZURE_21:Diagnostic logging of blobs belongs to a workspace, and none exists yet
  for_each = local.states

  name                  = "tfstate-${each.key}"
  storage_account_id    = azurerm_storage_account.states.id
  container_access_type = "private"

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_management_lock" "states" {
  name       = "keep-states"
  scope      = azurerm_storage_account.states.id
  lock_level = "CanNotDelete"
  notes      = "Terraform's states of every environment."

  depends_on = [azurerm_storage_container.state]
}
