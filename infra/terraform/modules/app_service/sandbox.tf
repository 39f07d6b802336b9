resource "azurerm_linux_web_app" "sandbox" {
  #checkov:skip=CKV_AZURE_13:No browser and no sign-in: it only serves its health, to the application's subnet
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

  app_settings = local.sandbox.settings

  identity {
    type         = "UserAssigned"
    identity_ids = [var.sandbox.identity_id]
  }

  site_config {
    always_on                         = local.site.always_on
    ftps_state                        = local.site.ftps_state
    http2_enabled                     = local.site.http2_enabled
    minimum_tls_version               = local.site.minimum_tls_version
    scm_minimum_tls_version           = local.site.minimum_tls_version
    vnet_route_all_enabled            = local.site.vnet_route_all_enabled
    health_check_path                 = local.sandbox.health_check_path
    health_check_eviction_time_in_min = local.site.health_check_eviction_time_in_min
    ip_restriction_default_action     = local.site.ip_restriction_default_action
    scm_ip_restriction_default_action = local.sandbox.scm_ip_restriction_default_action

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
