variable "environment" {
  description = "Environment: dev, staging or prod."
  type        = string

  validation {
    condition     = contains(["dev", "staging", "prod"], var.environment)
    error_message = "environment: dev, staging or prod."
  }
}

variable "project" {
  description = "First word of all names."
  type        = string
  default     = "qlp"

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,5}$", var.project))
    error_message = "project: two to six lower-case letters and digits, beginning with a letter (storage accounts have 24 characters in all)."
  }
}

variable "location" {
  description = "Azure region, and its code in names."
  type = object({
    name = string
    code = string
  })

  validation {
    condition     = can(regex("^[a-z]+[0-9]?$", var.location.name)) && can(regex("^[a-z0-9]{2,4}$", var.location.code))
    error_message = "location: a region's name without spaces and a code of two to four letters, such as westeurope and weu."
  }
}

variable "tags" {
  description = "Tags besides project, environment and managed-by, such as owner and cost-center."
  type        = map(string)
  default     = {}
}

variable "locks_enabled" {
  description = "Whether resources that hold data are locked against deletion."
  type        = bool
  default     = true

  validation {
    condition     = var.locks_enabled || var.environment != "prod"
    error_message = "locks_enabled: production is always locked."
  }
}

# --- network -----------------------------------------------------------------------------------

variable "private" {
  description = "Whether every service has a private endpoint and is closed to public networks. If not, only the database has one, and the other services admit listed networks."
  type        = bool

  validation {
    condition     = var.private || var.environment != "prod"
    error_message = "private: production has no public network access."
  }
}

variable "address_space" {
  description = "CIDR of the virtual network, /24 or larger."
  type        = string
}

variable "client_cidrs" {
  description = "Networks that may call the application if there is no Front Door."
  type        = list(string)
  default     = []
}

variable "operator_cidrs" {
  description = "Operators' networks: public ones if services are not private, else private ones (of a VPN or a runner) that may reach the endpoints."
  type        = list(string)
  default     = []
}

variable "ddos_protection" {
  description = "Whether the virtual network has a DDoS protection plan."
  type        = bool
  default     = false
}

variable "edge" {
  description = "Front Door in front of the application; null for none. Managed WAF rules need sku Premium."
  type = object({
    sku                   = string
    waf_mode              = optional(string, "Prevention")
    rate_limit_per_minute = optional(number, 600)
    allowed_countries     = optional(list(string), [])
  })
  default = null

  validation {
    condition     = !var.private || var.edge != null
    error_message = "edge: a private application can only be reached through Front Door; set edge."
  }

  validation {
    condition     = var.environment != "prod" || try(var.edge.sku == "Premium" && var.edge.waf_mode == "Prevention", false)
    error_message = "edge: production needs sku Premium (managed rules, private origin) and waf_mode Prevention."
  }
}

# --- data --------------------------------------------------------------------------------------

variable "customer_managed_keys" {
  description = "Whether data at rest is encrypted with keys in our vault instead of Azure's own."
  type        = bool
}

variable "database" {
  description = "Size and durability of PostgreSQL; max_connections is how many connections the sku allows to users."
  type = object({
    version              = optional(string, "18")
    sku                  = string
    storage_mb           = number
    max_connections      = number
    backup_days          = optional(number, 7)
    geo_redundant_backup = optional(bool, false)
    high_availability    = optional(bool, false)
  })
}

variable "database_administrator" {
  description = "Microsoft Entra group (or principal) that administers PostgreSQL and owns the tables: object_id, principal_name, principal_type. Not in the tfvars: set TF_VAR_database_administrator."
  type = object({
    object_id      = string
    principal_name = string
    principal_type = optional(string, "Group")
  })
  default = null

  validation {
    condition     = var.database_administrator != null
    error_message = "database_administrator: set TF_VAR_database_administrator to {object_id=\"…\",principal_name=\"…\"} of a Microsoft Entra group; nobody else can sign in to the database."
  }
}

variable "service_bus" {
  description = "Service Bus namespace: sku Standard or Premium (private endpoints, customer-managed keys), capacity in messaging units."
  type = object({
    sku      = string
    capacity = optional(number, 1)
  })
}

variable "registry_sku" {
  description = "Container registry: Basic, Standard or Premium (private endpoint)."
  type        = string
  default     = "Basic"
}

# --- operations --------------------------------------------------------------------------------

variable "logs" {
  description = "Log Analytics: days that logs are kept, and GB a day at most (-1: no limit)."
  type = object({
    retention_days = optional(number, 30)
    daily_quota_gb = optional(number, 1)
  })
  default = {}
}

variable "alert_emails" {
  description = "Addresses that alerts go to. Not in the tfvars: set TF_VAR_alert_emails."
  type        = set(string)
  default     = []
}

variable "budget" {
  description = "Monthly budget of the environment in the subscription's currency, and the first day it counts from."
  type = object({
    amount = number
    start  = string
  })
}
