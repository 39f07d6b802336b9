# A release goes here first, with the same settings, and is then swapped in.
resource "azurerm_linux_function_app_slot" "this" {
  #checkov:skip=CKV_AZURE_221:Closed where var.private is true; else restricted to listed networks
  count = var.slot == null ? 0 : 1

  name            = var.slot
  function_app_id = azurerm_linux_function_app.this.id
  tags            = var.tags

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

resource "azurerm_linux_web_app_slot" "sandbox" {
  count = var.sandbox == null || var.slot == null ? 0 : 1

  name           = var.slot
  app_service_id = azurerm_linux_web_app.sandbox[0].id
  tags           = var.tags

  https_only                                     = true
  client_affinity_enabled                        = false
  public_network_access_enabled                  = !var.private
  ftp_publish_basic_authentication_enabled       = false
  webdeploy_publish_basic_authentication_enabled = false
  virtual_network_subnet_id                      = var.subnet_ids.sandbox
  vnet_image_pull_enabled                        = true

  app_settings = merge({
    AZURE_CLIENT_ID                     = var.sandbox.client_id
    WEBSITES_PORT                       = var.sandbox.settings["QLP_SANDBOX_HEALTH_PORT"]
    WEBSITES_ENABLE_APP_SERVICE_STORAGE = "false"
    # Longer than a host drains: running programs end before it is killed.
    WEBSITES_CONTAINER_STOP_TIME_LIMIT = "120"
  }, var.sandbox.settings)

  identity {
    type         = "UserAssigned"
    identity_ids = [var.sandbox.identity_id]
  }

  site_config {
    always_on                         = true
    ftps_state                        = "Disabled"
    http2_enabled                     = true
    minimum_tls_version               = "1.3"
    scm_minimum_tls_version           = "1.3"
    vnet_route_all_enabled            = true
    health_check_path                 = "/health"
    health_check_eviction_time_in_min = 5
    ip_restriction_default_action     = "Deny"
    scm_ip_restriction_default_action = "Deny" # images come from the registry, nothing is deployed here

    container_registry_use_managed_identity       = true
    container_registry_managed_identity_client_id = var.sandbox.client_id

    application_stack {
      docker_registry_url = "https://${var.sandbox.registry_server}"
      docker_image_name   = var.sandbox.image
    }

    dynamic "ip_restriction" {
      for_each = var.private ? [] : [var.subnet_ids.app]
      content {
        name                      = "application"
        action                    = "Allow"
        priority                  = 100
        virtual_network_subnet_id = ip_restriction.value
      }
    }
  }

  logs {
    detailed_error_messages = true
    failed_request_tracing  = true

    http_logs {
      file_system {
        retention_in_days = 7
        retention_in_mb   = 35
      }
    }
  }

  lifecycle {
    # The release pipeline deploys by digest.
    ignore_changes = [site_config[0].application_stack[0].docker_image_name]
  }
}
