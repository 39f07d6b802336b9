resource "azurerm_linux_web_app" "sandbox" {
  #checkov:skip=CKV_AZURE_13:No browser and no sign-in: it serves its own health to the application's subnet alone
  #checkov:skip=CKV_AZURE_17:As above; no client presents a certificate
  #checkov:skip=CKV_AZURE_88:Nothing is kept: a program's files live in memory until it ends
  #checkov:skip=CKV_AZURE_222:Closed where var.private is true; else restricted to the application's subnet
  count = var.sandbox == null ? 0 : 1

  name                = local.sandbox_name
  location            = var.location
  resource_group_name = var.resource_group_name
  service_plan_id     = azurerm_service_plan.this.id
  tags                = var.tags

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
