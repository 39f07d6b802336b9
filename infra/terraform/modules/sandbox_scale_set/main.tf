resource "azurerm_linux_virtual_machine_scale_set" "this" {
  name                 = "vmss-${var.name}-sandbox"
  location             = var.location
  resource_group_name  = var.resource_group_name
  computer_name_prefix = "sandbox"
  tags                 = var.tags

  sku                        = var.sku
  instances                  = var.instances.minimum
  zones                      = var.zones
  zone_balance               = length(var.zones) > 1
  overprovision              = false # a surplus machine would take jobs, and be deleted while it runs them
  upgrade_mode               = "Rolling"
  encryption_at_host_enabled = var.encryption_at_host
  secure_boot_enabled        = true
  vtpm_enabled               = true

  admin_username                  = "qlpadmin"
  disable_password_authentication = true
  custom_data                     = base64encode(local.cloud_init)
  source_image_id                 = var.source_image_id

  admin_ssh_key {
    username   = "qlpadmin"
    public_key = var.admin_ssh_public_key
  }

  dynamic "source_image_reference" {
    for_each = var.source_image_id == null ? ["server"] : []
    content {
      publisher = "Canonical"
      offer     = "ubuntu-24_04-lts"
      sku       = source_image_reference.value
      version   = "latest"
    }
  }

  # Nothing is kept: the system is on the machine's local disk, and is lost with the machine.
  os_disk {
    caching              = "ReadOnly"
    storage_account_type = "Standard_LRS"

    diff_disk_settings {
      option    = "Local"
      placement = "ResourceDisk"
    }
  }

  network_interface {
    name    = "primary"
    primary = true

    ip_configuration {
      name      = "primary"
      primary   = true
      subnet_id = var.subnet_id
    }
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [var.identity.id]
  }

  extension {
    # In version 1, status 200 is healthy. Version 2 requires a body of its own format.
    name                       = "health"
    publisher                  = "Microsoft.ManagedServices"
    type                       = "ApplicationHealthLinux"
    type_handler_version       = "1.0"
    auto_upgrade_minor_version = true
    automatic_upgrade_enabled  = true

    settings = jsonencode({
      protocol          = "http"
      port              = tonumber(var.settings["QLP_SANDBOX_HEALTH_PORT"])
      requestPath       = "/health"
      intervalInSeconds = 10
      numberOfProbes    = 3
    })
  }

  rolling_upgrade_policy {
    max_batch_instance_percent              = 34
    max_unhealthy_instance_percent          = 50
    max_unhealthy_upgraded_instance_percent = 20
    pause_time_between_batches              = "PT2M"
    prioritize_unhealthy_instances_enabled  = true
    # A new machine is added before an old one is removed, so that jobs are always taken.
    maximum_surge_instances_enabled = true
  }

  automatic_os_upgrade_policy {
    enable_automatic_os_upgrade = var.source_image_id == null
    disable_automatic_rollback  = false
  }

  automatic_instance_repair {
    enabled      = true
    grace_period = "PT20M"
    action       = "Replace"
  }

  scale_in {
    rule = "OldestVM"
  }

  # Time for running programs to end; those that do not are run again by another machine.
  termination_notification {
    enabled = true
    timeout = "PT5M"
  }

  boot_diagnostics {}

  lifecycle {
    ignore_changes = [instances] # set by autoscaling
  }
}
