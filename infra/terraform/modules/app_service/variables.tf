variable "name" {
  description = "Stem of the resources' names, such as qlp-prod-weu."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.name)) && length(var.name) <= 20
    error_message = "name: up to 20 lower-case letters and digits in words joined by single hyphens, such as qlp-prod-weu."
  }
}

variable "location" {
  description = "Azure region, such as westeurope."
  type        = string
}

variable "resource_group_name" {
  description = "Resource group that holds the resources."
  type        = string
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}

variable "suffix" {
  description = "Five characters that make names globally unique; must stay the same between applies."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]{5}$", var.suffix))
    error_message = "suffix: five lower-case letters or digits."
  }
}

variable "plan" {
  description = "The App Service plan: sku, number of workers, and whether they are spread over zones."
  type = object({
    sku            = optional(string, "P1v3")
    workers        = optional(number, 1)
    zone_redundant = optional(bool, false)
  })

  validation {
    condition     = contains(["B1", "B2", "B3", "P0v3", "P1v3", "P2v3", "P3v3"], var.plan.sku)
    error_message = "plan.sku: B1 to B3, or P0v3 to P3v3; the application's timers need a plan with always_on."
  }

  validation {
    condition     = var.plan.workers >= 1 && var.plan.workers <= (startswith(var.plan.sku, "B") ? 3 : 30)
    error_message = "plan.workers: 1 to 3 for B skus, 1 to 30 for P skus."
  }

  validation {
    condition     = !var.plan.zone_redundant || (startswith(var.plan.sku, "P") && var.plan.workers >= 2)
    error_message = "plan.zone_redundant: needs a P sku and two workers or more."
  }
}

variable "slot" {
  description = "Name of the deployment slot of both apps; null for none."
  type        = string
  default     = null
}

variable "private" {
  description = "Whether the apps and their storage are closed to public networks."
  type        = bool
}

variable "subnet_ids" {
  description = "Subnets of the application's and the sandbox host's outbound traffic."
  type = object({
    app     = string
    sandbox = string
  })
}

variable "inbound" {
  description = "Who may call the application if it is not private: networks, and a Front Door profile by its GUID."
  type = object({
    cidrs           = optional(list(string), [])
    from_front_door = optional(bool, false)
    front_door_guid = optional(string)
  })
  default = {}

  validation {
    condition     = alltrue([for cidr in var.inbound.cidrs : can(cidrhost(cidr, 0)) && !endswith(cidr, "/0")])
    error_message = "inbound.cidrs: CIDRs, none of which is the whole Internet."
  }
}

variable "app" {
  description = "The application: identity, Python version, settings, and settings whose values are secrets in a vault."
  type = object({
    identity_id      = string
    client_id        = string
    python_version   = optional(string, "3.11")
    worker_processes = optional(number, 1)
    settings         = map(string)
    key_vault_name   = string
    secrets          = optional(map(string), {})
  })

  validation {
    condition     = contains(["3.11", "3.12", "3.13"], var.app.python_version)
    error_message = "app.python_version: 3.11, 3.12 or 3.13."
  }

  validation {
    condition     = var.app.worker_processes >= 1 && var.app.worker_processes <= 10
    error_message = "app.worker_processes: 1 to 10 (FUNCTIONS_WORKER_PROCESS_COUNT)."
  }
}

variable "application_insights_connection_string" {
  description = "Where the application's telemetry goes."
  type        = string
  sensitive   = true
}

variable "sandbox" {
  description = "The sandbox host's container: identity, registry, image (repository:tag or repository@digest) and settings; null if it runs elsewhere."
  type = object({
    identity_id     = string
    client_id       = string
    registry_server = string
    image           = string
    settings        = map(string)
  })
  default = null

  validation {
    condition     = var.sandbox == null ? true : can(regex("^[a-z0-9][a-z0-9._/-]*(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})$", var.sandbox.image))
    error_message = "sandbox.image: repository:tag or repository@sha256:…, without the registry."
  }
}

variable "encryption_key" {
  description = "Customer-managed key of the storage account: its versionless identifier and the identity that may use it; null for Azure's own."
  type = object({
    versionless = string
    identity_id = string
  })
  default = null
}

variable "storage_replication" {
  description = "Replication of the functions host's storage: LRS, or ZRS for several zones."
  type        = string
  default     = "LRS"

  validation {
    condition     = contains(["LRS", "ZRS"], var.storage_replication)
    error_message = "storage_replication: LRS or ZRS."
  }
}
