variable "name" {
  description = "Stem of the resources' names, such as qlp-prod-weu."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.name)) && length(var.name) <= 20
    error_message = "name: up to 20 lower-case letters and digits in words joined by single hyphens, such as qlp-prod-weu."
  }
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

variable "enabled" {
  description = "Whether there is a Front Door."
  type        = bool
  default     = true
}

variable "sku" {
  description = "Standard or Premium; managed WAF rules and private origins need Premium."
  type        = string

  validation {
    condition     = contains(["Standard", "Premium"], var.sku)
    error_message = "sku: Standard or Premium."
  }
}

variable "origin" {
  description = "The application: host name and, if it is private, the resource ID and region of its private link."
  type = object({
    host_name        = string
    health_path      = string
    private_link_id  = optional(string)
    private_location = optional(string)
  })
}

variable "origin_is_private" {
  description = "Whether the origin is reached only by private link; needs Premium."
  type        = bool

  validation {
    condition     = !var.origin_is_private || var.sku == "Premium"
    error_message = "origin_is_private: only Premium can reach origins by private link."
  }
}

variable "waf_mode" {
  description = "Prevention blocks; Detection only logs, to find false positives."
  type        = string
  default     = "Prevention"

  validation {
    condition     = contains(["Prevention", "Detection"], var.waf_mode)
    error_message = "waf_mode: Prevention or Detection."
  }
}

variable "rate_limit_per_minute" {
  description = "Requests a minute from one address; further ones are refused for that minute."
  type        = number
  default     = 600

  validation {
    condition     = var.rate_limit_per_minute >= 10 && var.rate_limit_per_minute <= 100000
    error_message = "rate_limit_per_minute: 10 to 100000."
  }
}

variable "allowed_countries" {
  description = "ISO 3166 codes of the countries that may call; empty for all. ZZ stands for addresses of unknown origin."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for code in var.allowed_countries : can(regex("^[A-Z]{2}$", code))])
    error_message = "allowed_countries: codes of two capital letters, such as DE."
  }
}

variable "body_exclusions" {
  description = "JSON members whose content the managed rules ignore: name = operator, Equals or StartsWith."
  type        = map(string)
  # Intents contain programs, which rules against injected code take for attacks.
  default = { "text" = "Equals", "program" = "StartsWith" }

  validation {
    condition     = alltrue([for operator in values(var.body_exclusions) : contains(["Equals", "StartsWith"], operator)])
    error_message = "body_exclusions: Equals or StartsWith."
  }
}
