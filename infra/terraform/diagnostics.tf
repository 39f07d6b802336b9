# Logs and metrics of every service go to the environment's workspace.
locals {
  diagnostic_targets = merge(
    {
      database        = { id = module.database.id, groups = ["allLogs"] }
      key-vault       = { id = module.security.key_vault_id, groups = ["allLogs"] }
      service-bus     = { id = module.messaging.id, groups = ["allLogs"] }
      app             = { id = module.app_service.app_id, groups = ["allLogs"] }
      plan            = { id = module.app_service.plan_id, groups = [] }
      storage-blob    = { id = "${module.app_service.storage_account_id}/blobServices/default", groups = ["allLogs"] }
      storage-queue   = { id = "${module.app_service.storage_account_id}/queueServices/default", groups = ["allLogs"] }
      storage-table   = { id = "${module.app_service.storage_account_id}/tableServices/default", groups = ["allLogs"] }
      virtual-network = { id = module.networking.virtual_network_id, groups = ["allLogs"] }
      # Shows who queried the logs.
      workspace = { id = module.monitoring.workspace_id, groups = ["audit"] }
    },
    var.shared_registry == null ? { registry = { id = local.registry.id, groups = ["allLogs"] } } : {},
    local.sandbox_on_plan ? { sandbox = { id = module.app_service.sandbox_id, groups = ["allLogs"] } } : {},
    var.edge == null ? {} : { edge = { id = module.edge.profile_id, groups = ["allLogs"] } },
    var.sandbox.platform == "vm_scale_set" ? {
      sandbox-machines = { id = one(module.sandbox_scale_set[*].id), groups = [] }
      autoscale        = { id = one(module.sandbox_scale_set[*].autoscale_id), groups = ["allLogs"] }
    } : {},
    var.slot == null ? {} : { app-slot = { id = module.app_service.app_slot_id, groups = ["allLogs"] } },
    { for subnet in ["app", "sandbox", "endpoints"] : "security-group-${subnet}" => { id = module.networking.network_security_group_ids[subnet], groups = ["allLogs"], metrics = false } },
  )
}

resource "azurerm_monitor_diagnostic_setting" "this" {
  for_each = local.diagnostic_targets

  name                       = "to-workspace"
  target_resource_id         = each.value.id
  log_analytics_workspace_id = module.monitoring.workspace_id

  dynamic "enabled_log" {
    for_each = each.value.groups
    content {
      category_group = enabled_log.value
    }
  }

  dynamic "enabled_metric" {
    for_each = try(each.value.metrics, true) ? ["AllMetrics"] : []
    content {
      category = enabled_metric.value
    }
  }
}
