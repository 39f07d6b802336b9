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

variable "retention_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 30

  validation {
    condition     = var.retention_days >= 30 && var.retention_days <= 730
    error_message = "retention_days: 30 to 730."
  }
}

variable "daily_quota_gb" {
  description = "GB of logs a day, at most; -1 for no limit."
  type        = number
  default     = 1

  validation {
    condition     = var.daily_quota_gb == -1 || var.daily_quota_gb > 0
    error_message = "daily_quota_gb: more than 0, or -1 for no limit."
  }
}

variable "alert_emails" {
  description = "Addresses that alerts and budget warnings are sent to."
  type        = set(string)

  validation {
    condition     = length(var.alert_emails) > 0 && alltrue([for address in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", address))])
    error_message = "alert_emails: one or more mail addresses; without one, nobody is told of an outage."
  }
}

variable "resource_group_id" {
  description = "Resource group that the budget is for."
  type        = string
}

variable "budget" {
  description = "Monthly budget in the subscription's currency, and the first day it counts from."
  type = object({
    amount = number
    start  = string
  })

  validation {
    condition     = var.budget.amount > 0
    error_message = "budget.amount: more than 0."
  }

  validation {
    condition     = can(regex("^20[0-9]{2}-(0[1-9]|1[0-2])-01T00:00:00Z$", var.budget.start))
    error_message = "budget.start: the first of a month, such as 2026-12-01T00:00:00Z."
  }
}
