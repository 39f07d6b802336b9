locals {
  # One machine more while more than jobs_per_machine jobs wait per machine; one fewer while none wait.
  scaling = {
    out = { operator = "GreaterThan", threshold = var.queue.jobs_per_machine, direction = "Increase", cooldown = "PT3M", window = "PT5M" }
    in  = { operator = "LessThan", threshold = 1, direction = "Decrease", cooldown = "PT10M", window = "PT15M" }
  }
}

resource "azurerm_monitor_autoscale_setting" "this" {
  name                = "autoscale-${var.name}-sandbox"
  location            = var.location
  resource_group_name = var.resource_group_name
  target_resource_id  = azurerm_linux_virtual_machine_scale_set.this.id
  tags                = var.tags

  profile {
    name = "queue-length"

    capacity {
      default = var.instances.minimum
      minimum = var.instances.minimum
      maximum = var.instances.maximum
    }

    dynamic "rule" {
      for_each = local.scaling
      content {
        metric_trigger {
          metric_name              = "ActiveMessages"
          metric_namespace         = "Microsoft.ServiceBus/namespaces"
          metric_resource_id       = var.queue.namespace_id
          operator                 = rule.value.operator
          threshold                = rule.value.threshold
          statistic                = "Average"
          time_aggregation         = "Average"
          time_grain               = "PT1M"
          time_window              = rule.value.window
          divide_by_instance_count = true

          dimensions {
            name     = "EntityName"
            operator = "Equals"
            values   = [var.queue.name]
          }
        }

        scale_action {
          direction = rule.value.direction
          type      = "ChangeCount"
          value     = 1
          cooldown  = rule.value.cooldown
        }
      }
    }
  }
}
