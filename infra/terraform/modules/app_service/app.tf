locals {
  host_settings = {
    AzureWebJobsStorage__clientId         = var.app.client_id
    AzureWebJobsStorage__credential       = "managedidentity"
    FUNCTIONS_WORKER_PROCESS_COUNT        = tostring(var.app.worker_processes)
    APPLICATIONINSIGHTS_CONNECTION_STRING = var.application_insights_connection_string
    # The identity that azure-identity's DefaultAzureCredential takes.
    AZURE_CLIENT_ID = var.app.client_id
  }

  secret_settings = {
    for setting, secret in var.app.secrets :
    setting => "@Microsoft.KeyVault(VaultName=${var.app.key_vault_name};SecretName=${secret})"
  }
}

resource "azurerm_linux_function_app" "this" {
  #checkov:skip=CKV_AZURE_221:Closed where var.private is true; else restricted to listed networks
  name                = local.app_name
  location            = var.location
  resource_group_name = var.resource_group_name
  service_plan_id     = azurerm_service_plan.this.id
  tags                = var.tags

  functions_extension_version     = "~4"
  builtin_logging_enabled         = false
  storage_account_name            = azurerm_storage_account.host.name
  storage_uses_managed_identity   = true
  key_vault_reference_identity_id = var.app.identity_id

  https_only                                     = true
  public_network_access_enabled                  = !var.private
  ftp_publish_basic_authentication_enabled       = false
  webdeploy_publish_basic_authentication_enabled = false
  virtual_network_subnet_id                      = var.subnet_ids.app

  app_settings = merge(local.host_settings, var.app.settings, local.secret_settings)

  identity {
    type         = "UserAssigned"
    identity_ids = [var.app.identity_id]
  }

  site_config {
    always_on                         = true # the timers: relay, recovery, projections, seals
    ftps_state                        = "Disabled"
    http2_enabled                     = true
    minimum_tls_version               = "1.3"
    scm_minimum_tls_version           = "1.3"
    vnet_route_all_enabled            = true
    health_check_path                 = "/api/health"
    health_check_eviction_time_in_min = 5
    use_32_bit_worker                 = false
    ip_restriction_default_action     = "Deny"
    # Deploying takes a sign-in with Microsoft Entra and a role; hosted runners have no fixed address.
    scm_ip_restriction_default_action = var.private ? "Deny" : "Allow"

    application_stack {
      python_version = var.app.python_version
    }

    dynamic "ip_restriction" {
      for_each = var.private ? [] : var.inbound.cidrs
      content {
        name       = "client-${ip_restriction.key}"
        action     = "Allow"
        priority   = 100 + ip_restriction.key
        ip_address = ip_restriction.value
      }
    }

    dynamic "ip_restriction" {
      for_each = !var.private && var.inbound.from_front_door ? [var.inbound.front_door_guid] : []
      content {
        name        = "front-door"
        action      = "Allow"
        priority    = 200
        service_tag = "AzureFrontDoor.Backend"

        headers {
          x_azure_fdid      = [ip_restriction.value]
          x_fd_health_probe = []
          x_forwarded_for   = []
          x_forwarded_host  = []
        }
      }
    }

    dynamic "ip_restriction" {
      for_each = var.private ? [] : [var.subnet_ids.sandbox]
      content {
        name                      = "sandbox"
        action                    = "Allow"
        priority                  = 210
        virtual_network_subnet_id = ip_restriction.value
      }
    }
  }

  lifecycle {
    # The release pipeline says which package runs.
    ignore_changes = [app_settings["WEBSITE_RUN_FROM_PACKAGE"]]
  }
}
