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

  app_settings = local.app.settings

  identity {
    type         = "UserAssigned"
    identity_ids = [var.app.identity_id]
  }

  site_config {
    always_on                         = local.site.always_on
    ftps_state                        = local.site.ftps_state
    http2_enabled                     = local.site.http2_enabled
    minimum_tls_version               = local.site.minimum_tls_version
    scm_minimum_tls_version           = local.site.minimum_tls_version
    vnet_route_all_enabled            = local.site.vnet_route_all_enabled
    health_check_path                 = local.app.health_check_path
    health_check_eviction_time_in_min = local.site.health_check_eviction_time_in_min
    use_32_bit_worker                 = false
    ip_restriction_default_action     = local.site.ip_restriction_default_action
    scm_ip_restriction_default_action = local.app.scm_ip_restriction_default_action

    application_stack {
      python_version = var.app.python_version
    }

    dynamic "ip_restriction" {
      for_each = local.app_inbound
      content {
        name                      = ip_restriction.value.name
        action                    = "Allow"
        priority                  = ip_restriction.value.priority
        ip_address                = ip_restriction.value.cidr
        service_tag               = ip_restriction.value.tag
        virtual_network_subnet_id = ip_restriction.value.subnet_id

        dynamic "headers" {
          for_each = ip_restriction.value.front_door_guids
          content {
            x_azure_fdid      = [headers.value]
            x_fd_health_probe = []
            x_forwarded_for   = []
            x_forwarded_host  = []
          }
        }
      }
    }
  }

  lifecycle {
    # The release pipeline sets it.
    ignore_changes = [app_settings["WEBSITE_RUN_FROM_PACKAGE"]]
  }
}
