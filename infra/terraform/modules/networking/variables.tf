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

variable "address_space" {
  description = "CIDR of the virtual network, which is divided into four equal parts: app, sandbox, private endpoints, spare."
  type        = string

  validation {
    condition     = can(cidrhost(var.address_space, 0)) && tonumber(split("/", var.address_space)[1]) <= 24 && tonumber(split("/", var.address_space)[1]) >= 8
    error_message = "address_space: one IPv4 CIDR between /8 and /24, such as 10.20.0.0/22, so that each subnet has 64 addresses or more."
  }
}

variable "private" {
  description = "Whether services are reached only through private endpoints; if not, their service tags are allowed too."
  type        = bool
}

variable "sandbox_delegation" {
  description = "Service to which the sandbox's subnet is delegated; null for virtual machines."
  type        = string
  default     = null

  validation {
    condition     = var.sandbox_delegation == null ? true : contains(["Microsoft.Web/serverFarms"], var.sandbox_delegation)
    error_message = "sandbox_delegation: null or Microsoft.Web/serverFarms."
  }
}

variable "sandbox_sessions" {
  description = "Whether the sandbox host calls a Container Apps session pool, which has public addresses only."
  type        = bool
  default     = false
}

variable "sandbox_package_egress" {
  description = "Whether the sandbox's machines fetch packages from the Internet when they start; adds a NAT gateway."
  type        = bool
  default     = false
}

variable "app_https_egress" {
  description = "Whether the application may call HTTPS services on the Internet, such as a language model."
  type        = bool
  default     = false
}

variable "operator_cidrs" {
  description = "Operators' networks (of a VPN or a runner) that may reach the private endpoints."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.operator_cidrs : can(cidrhost(cidr, 0)) && !endswith(cidr, "/0")])
    error_message = "operator_cidrs: CIDRs, none of which is the whole Internet."
  }
}

variable "private_dns_zones" {
  description = "Private DNS zones, by service, such as key-vault = privatelink.vaultcore.azure.net."
  type        = map(string)
  default     = {}
}

variable "ddos_protection" {
  description = "Whether the network has a DDoS protection plan of its own (about 2,944 USD a month)."
  type        = bool
  default     = false
}
