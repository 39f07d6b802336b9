# What an app and its slot share, so that a swap exchanges only the code.
locals {
  app_name     = "func-${var.name}-${var.suffix}"
  sandbox_name = "app-${var.name}-sandbox-${var.suffix}"

  # Both apps, and their slots.
  site = {
    always_on                         = true # the application's timers: relay, recovery, projections, seals
    ftps_state                        = "Disabled"
    http2_enabled                     = true
    minimum_tls_version               = "1.3"
    vnet_route_all_enabled            = true
    health_check_eviction_time_in_min = 5
    ip_restriction_default_action     = "Deny"
  }

  app = {
    health_check_path = "/api/health"
    # Deploying needs a Microsoft Entra sign-in and a role; hosted runners have no fixed addresses.
    scm_ip_restriction_default_action = var.private ? "Deny" : "Allow"

    settings = merge({
      AzureWebJobsStorage__clientId         = var.app.client_id
      AzureWebJobsStorage__credential       = "managedidentity"
      FUNCTIONS_WORKER_PROCESS_COUNT        = tostring(var.app.worker_processes)
      APPLICATIONINSIGHTS_CONNECTION_STRING = var.application_insights_connection_string
      # The identity that DefaultAzureCredential of azure-identity uses.
      AZURE_CLIENT_ID = var.app.client_id
      }, var.app.settings, {
      for setting, secret in var.app.secrets :
      setting => "@Microsoft.KeyVault(VaultName=${var.app.key_vault_name};SecretName=${secret})"
    })
  }

  # Who may call the application while it is not private: listed networks, Front Door, the sandbox host.
  app_inbound = var.private ? [] : concat(
    [for index, cidr in var.inbound.cidrs : {
      name = "client-${index}", priority = 100 + index, cidr = cidr, tag = null, front_door_guids = [], subnet_id = null
    }],
    [for guid in var.inbound.from_front_door ? [var.inbound.front_door_guid] : [] : {
      name = "front-door", priority = 200, cidr = null, tag = "AzureFrontDoor.Backend", front_door_guids = [guid], subnet_id = null
    }],
    [{
      name = "sandbox", priority = 210, cidr = null, tag = null, front_door_guids = [], subnet_id = var.subnet_ids.sandbox
    }],
  )

  sandbox = var.sandbox == null ? null : {
    health_check_path = "/health"
    # Images come from the registry; nothing is deployed here.
    scm_ip_restriction_default_action = "Deny"

    settings = merge({
      AZURE_CLIENT_ID                     = var.sandbox.client_id
      WEBSITES_PORT                       = var.sandbox.settings["QLP_SANDBOX_HEALTH_PORT"]
      WEBSITES_ENABLE_APP_SERVICE_STORAGE = "false"
      # Longer than QLP_SANDBOX_DRAIN_SECONDS, so that running programs end before the host is killed.
      WEBSITES_CONTAINER_STOP_TIME_LIMIT = "120"
    }, var.sandbox.settings)
  }
}
