variable "project" {
  description = "First word of all names."
  type        = string
  default     = "qlp"

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,5}$", var.project))
    error_message = "project: two to six lower-case letters and digits, beginning with a letter."
  }
}

variable "location" {
  description = "Azure region of the states."
  type        = string
  default     = "westeurope"
}

variable "environments" {
  description = "Environments that get a state, and identities that deploy them."
  type        = set(string)
  default     = ["dev", "staging", "prod"]

  validation {
    condition     = length(var.environments) > 0 && alltrue([for name in var.environments : can(regex("^[a-z]{2,10}$", name))])
    error_message = "environments: one or more names of two to ten lower-case letters."
  }
}

variable "allowed_cidrs" {
  description = "Public networks that Terraform is run from: they may reach the states and their key vault. Set TF_VAR_allowed_cidrs."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.allowed_cidrs : can(cidrhost(cidr, 0)) && !endswith(cidr, "/0")])
    error_message = "allowed_cidrs: CIDRs, none of which is the whole Internet; hosted runners need states_reachable_from_anywhere instead."
  }
}

variable "states_reachable_from_anywhere" {
  description = "Whether the states' account can be reached from every network (with Microsoft Entra sign-in only, in any case): needed by hosted runners, whose addresses change."
  type        = bool
  default     = false
}

variable "github_repository" {
  description = "owner/name of the repository whose environments deploy with OpenID Connect; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.github_repository == null ? true : can(regex("^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$", var.github_repository))
    error_message = "github_repository: owner/name."
  }
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
