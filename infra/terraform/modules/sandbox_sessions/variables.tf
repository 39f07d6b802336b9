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

variable "max_sessions" {
  description = "Most sessions at the same time."
  type        = number
  default     = 20

  validation {
    condition     = var.max_sessions >= 1 && var.max_sessions <= 600
    error_message = "max_sessions: 1 to 600."
  }
}

variable "cooldown_seconds" {
  description = "Seconds without a request after which a session is destroyed."
  type        = number
  default     = 300

  validation {
    condition     = var.cooldown_seconds >= 300 && var.cooldown_seconds <= 3600
    error_message = "cooldown_seconds: 300 to 3600."
  }
}
