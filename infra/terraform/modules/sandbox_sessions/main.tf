# The azurerm provider has no resource for session pools, so a template deploys it.
locals {
  # Without hyphens: Azure's reference and its examples disagree on whether they are allowed.
  pool_name = "sp${replace(var.name, "-", "")}"
}

resource "azurerm_resource_group_template_deployment" "pool" {
  name                = "sessions-${var.name}"
  resource_group_name = var.resource_group_name
  deployment_mode     = "Incremental"
  tags                = var.tags

  template_content = jsonencode({
    "$schema"      = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
    contentVersion = "1.0.0.0"
    resources = [{
      type       = "Microsoft.App/sessionPools"
      apiVersion = "2025-01-01"
      name       = local.pool_name
      location   = var.location
      tags       = var.tags
      properties = {
        poolManagementType = "Dynamic"
        containerType      = "PythonLTS"
        scaleConfiguration = { maxConcurrentSessions = var.max_sessions }
        dynamicPoolConfiguration = {
          lifecycleConfiguration = { lifecycleType = "Timed", cooldownPeriodInSeconds = var.cooldown_seconds }
        }
        sessionNetworkConfiguration = { status = "EgressDisabled" }
      }
    }]
    outputs = {
      id = {
        type  = "string"
        value = "[resourceId('Microsoft.App/sessionPools', '${local.pool_name}')]"
      }
      endpoint = {
        type  = "string"
        value = "[reference(resourceId('Microsoft.App/sessionPools', '${local.pool_name}')).poolManagementEndpoint]"
      }
    }
  })
}
