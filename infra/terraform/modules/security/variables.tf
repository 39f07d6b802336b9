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
  description = "Microsoft Entra tenant of the vault."
  type        = string
}

variable "private" {
  description = "Whether the vault is closed to public networks."
  type        = bool
}

variable "operator_cidrs" {
  description = "Public networks that may reach the vault if it is not private."
  type        = list(string)
  default     = []
}

variable "subnet_ids" {
  description = "Subnets with a service endpoint that may reach the vault if it is not private."
  type        = list(string)
  default     = []
}

variable "customer_managed_keys" {
  description = "Names of the keys to make for data at rest; empty to use Azure's own keys."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for key in var.customer_managed_keys : can(regex("^[a-z][a-z-]{1,40}$", key))])
    error_message = "customer_managed_keys: names of lower-case letters and hyphens."
  }
}
