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

variable "subnet_id" {
  description = "Subnet of the machines."
  type        = string
}

variable "sku" {
  description = "Size of the machines; must have a local disk, for the ephemeral system disk."
  type        = string
  default     = "Standard_D2ds_v5"
}

variable "zones" {
  description = "Availability zones of the machines."
  type        = set(string)
  default     = ["1", "2", "3"]
}

variable "instances" {
  description = "The least and the greatest number of machines."
  type = object({
    minimum = optional(number, 1)
    maximum = optional(number, 4)
  })
  default = {}

  validation {
    condition     = var.instances.minimum >= 1 && var.instances.minimum <= var.instances.maximum && var.instances.maximum <= 100
    error_message = "instances: 1 <= minimum <= maximum <= 100."
  }
}

variable "source_image_id" {
  description = "Image with Docker in it; null for Ubuntu 24.04, which installs Docker when it starts."
  type        = string
  default     = null
}

variable "admin_ssh_public_key" {
  description = "Public key that Azure requires; no network rule admits SSH."
  type        = string

  validation {
    condition     = can(regex("^ssh-(rsa|ed25519) [A-Za-z0-9+/]+=*( .*)?$", var.admin_ssh_public_key))
    error_message = "admin_ssh_public_key: one line of an RSA or Ed25519 public key, such as ssh-ed25519 AAAA…."
  }
}

variable "identity" {
  description = "The sandbox host's identity: resource ID and client ID."
  type = object({
    id        = string
    client_id = string
  })
}

variable "registry_server" {
  description = "Host name of the registry that the image is pulled from."
  type        = string
}

variable "image" {
  description = "Image of the sandbox host: repository:tag or repository@digest, without the registry."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._/-]*(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})$", var.image))
    error_message = "image: repository:tag or repository@sha256:…, without the registry."
  }
}

variable "settings" {
  description = "Environment of the sandbox host, which needs no secrets."
  type        = map(string)
}

variable "queue" {
  description = "Queue whose length determines the number of machines: namespace ID, queue name, and waiting jobs per machine."
  type = object({
    namespace_id     = string
    name             = string
    jobs_per_machine = optional(number, 10)
  })

  validation {
    condition     = var.queue.jobs_per_machine >= 1
    error_message = "queue.jobs_per_machine: 1 or more."
  }
}

variable "encryption_at_host" {
  description = "Whether local disks are encrypted too; the feature Microsoft.Compute/EncryptionAtHost must be registered in the subscription."
  type        = bool
  default     = true
}
