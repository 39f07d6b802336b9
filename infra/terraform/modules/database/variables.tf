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

variable "tenant_id" {
  description = "Microsoft Entra tenant in which people and services sign in."
  type        = string
}

variable "administrator" {
  description = "Microsoft Entra principal that administers the server and owns the tables; a group is best."
  type = object({
    object_id      = string
    principal_name = string
    principal_type = optional(string, "Group")
  })

  validation {
    condition     = can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", var.administrator.object_id))
    error_message = "administrator.object_id: the object ID (a UUID) of a group, user or service principal in Microsoft Entra."
  }

  validation {
    condition     = contains(["Group", "User", "ServicePrincipal"], var.administrator.principal_type)
    error_message = "administrator.principal_type: Group, User or ServicePrincipal."
  }
}

variable "server" {
  description = "Size and durability: version, sku, storage_mb, max_connections of the sku, backup_days, geo_redundant_backup, high_availability."
  type = object({
    version              = optional(string, "18")
    sku                  = string
    storage_mb           = number
    max_connections      = number
    backup_days          = optional(number, 7)
    geo_redundant_backup = optional(bool, false)
    high_availability    = optional(bool, false)
  })

  validation {
    condition     = contains(["16", "17", "18"], var.server.version)
    error_message = "server.version: 16, 17 or 18; the schema needs xid8 and pgvector 0.8."
  }

  validation {
    condition     = can(regex("^(B|GP|MO)_Standard_[A-Za-z0-9_]+$", var.server.sku))
    error_message = "server.sku: tier and size, such as B_Standard_B1ms or GP_Standard_D2ds_v5."
  }

  validation {
    condition     = contains([32768, 65536, 131072, 262144, 524288, 1048576, 2097152, 4193280], var.server.storage_mb)
    error_message = "server.storage_mb: a power of two between 32768 and 2097152, or 4193280."
  }

  validation {
    condition     = var.server.backup_days >= 7 && var.server.backup_days <= 35
    error_message = "server.backup_days: 7 to 35."
  }

  validation {
    condition     = !var.server.high_availability || !startswith(var.server.sku, "B_")
    error_message = "server.high_availability: burstable sizes (B_…) have no standby; choose a GP_ or MO_ sku."
  }
}

variable "private" {
  description = "Whether the server is closed to public networks."
  type        = bool
}

variable "operator_cidrs" {
  description = "Public networks that may reach the server if it is not private."
  type        = list(string)
  default     = []
}

variable "encryption_key" {
  description = "Customer-managed key: its versioned identifier and the identity that may use it; null for Azure's own."
  type = object({
    versioned   = string
    identity_id = string
  })
  default = null
}
