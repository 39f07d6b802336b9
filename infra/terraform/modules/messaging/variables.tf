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

variable "namespace" {
  description = "Kind of namespace: sku Standard or Premium; capacity in messaging units, for Premium."
  type = object({
    sku      = string
    capacity = optional(number, 1)
  })

  validation {
    condition     = contains(["Standard", "Premium"], var.namespace.sku)
    error_message = "namespace.sku: Standard or Premium; Basic has no topics."
  }

  validation {
    condition     = contains([1, 2, 4, 8, 16], var.namespace.capacity)
    error_message = "namespace.capacity: 1, 2, 4, 8 or 16 messaging units."
  }
}

variable "private" {
  description = "Whether the namespace is closed to public networks; needs Premium."
  type        = bool

  validation {
    condition     = !var.private || var.namespace.sku == "Premium"
    error_message = "private: only a Premium namespace has private endpoints; set namespace.sku to Premium."
  }
}

variable "encryption_key" {
  description = "Customer-managed key: its versionless identifier and the identity that may use it; null for Azure's own. Needs Premium."
  type = object({
    versionless = string
    identity_id = string
  })
  default = null

  validation {
    condition     = var.encryption_key == null || var.namespace.sku == "Premium"
    error_message = "encryption_key: only a Premium namespace supports customer-managed keys."
  }
}
