variable "registry_open_to_builders" {
  description = "Whether a private environment's registry can be reached from public networks, so that hosted runners can push (signed in with Microsoft Entra)."
  type        = bool
  default     = false

  validation {
    condition     = !var.registry_open_to_builders || var.environment != "prod"
    error_message = "registry_open_to_builders: production has no public network access; build into staging's registry and give it to production as shared_registry."
  }
}

variable "shared_registry" {
  description = "Another environment's registry to take images from, by resource ID and host name; null for a registry of its own. With it, production runs exactly the images that were tested in staging."
  type = object({
    id           = string
    login_server = string
  })
  default = null

  validation {
    condition     = var.shared_registry == null ? true : can(regex("^/subscriptions/.+/registries/[A-Za-z0-9]+$", var.shared_registry.id)) && endswith(var.shared_registry.login_server, ".azurecr.io")
    error_message = "shared_registry: {id=\"/subscriptions/…/registries/NAME\",login_server=\"NAME.azurecr.io\"}."
  }
}

variable "plan" {
  description = "App Service plan: sku, workers, zone_redundant."
  type = object({
    sku            = optional(string, "P1v3")
    workers        = optional(number, 1)
    zone_redundant = optional(bool, false)
  })
  default = {}
}

variable "slot" {
  description = "Deployment slot to which releases are deployed before they are swapped into production; null for none (B skus have no slots)."
  type        = string
  default     = null

  validation {
    condition     = var.slot == null ? true : can(regex("^[a-z]{2,20}$", var.slot)) && startswith(var.plan.sku, "P")
    error_message = "slot: two to twenty lower-case letters, on a plan with a P sku."
  }
}

variable "release" {
  description = "GitHub repository (owner/name) and its environments whose jobs build and release; null for none."
  type = object({
    repository   = string
    environments = set(string)
  })
  default = null

  validation {
    condition     = var.release == null ? true : can(regex("^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$", var.release.repository))
    error_message = "release.repository: owner/name."
  }
}

variable "app" {
  description = "The application: Python version, worker processes per instance, database connections per process, settings, and settings whose values are secrets in the vault (setting = secret's name)."
  type = object({
    python_version   = optional(string, "3.11")
    worker_processes = optional(number, 1)
    pool_size        = optional(number, 8)
    settings         = optional(map(string), {})
    secrets          = optional(map(string), { QLP_RUN_TOKEN_KEY = "run-token-key" })
  })
  default = {}

  validation {
    condition     = var.app.pool_size >= 6 && var.app.pool_size <= 100
    error_message = "app.pool_size: 6 to 100 (QLP_DATABASE_POOL_SIZE)."
  }

  validation {
    condition     = alltrue([for name in keys(var.app.settings) : !can(regex("(?i)(password|secret|_key|token|connectionstring)", name))])
    error_message = "app.settings: put secrets' names into app.secrets, and their values into the vault."
  }
}

variable "language_model" {
  description = "An existing Azure OpenAI account, which the application uses with its identity: its endpoint and resource ID, and the names of its deployments for programs (llm) and for vectors (embedding), one of which may be left out. Null for none: a new sentence then needs a program, and vectors are lexical."
  type = object({
    endpoint   = string
    account_id = string
    llm        = optional(string)
    embedding  = optional(string)
  })
  default = null

  validation {
    condition     = var.language_model == null ? true : can(regex("^https://[a-z0-9-]+\\.(openai\\.azure\\.com|cognitiveservices\\.azure\\.com|services\\.ai\\.azure\\.com)/?$", var.language_model.endpoint))
    error_message = "language_model.endpoint: https://NAME.openai.azure.com (or .cognitiveservices.azure.com, .services.ai.azure.com)."
  }

  validation {
    condition     = var.language_model == null ? true : can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.CognitiveServices/accounts/[^/]+$", var.language_model.account_id))
    error_message = "language_model.account_id: /subscriptions/…/resourceGroups/…/providers/Microsoft.CognitiveServices/accounts/NAME."
  }

  validation {
    condition     = var.language_model == null ? true : var.language_model.llm != null || var.language_model.embedding != null
    error_message = "language_model: name a deployment (llm, embedding or both), or leave language_model out."
  }
}

variable "sandbox" {
  description = "The sandbox host: platform (app_service, vm_scale_set or container_apps_sessions, see docs/decisions/110), its image in the registry, tag of the languages' images (qlp-sandbox-LANGUAGE), programs at once and their memory, and runtimes in the order in which they are tried."
  type = object({
    platform     = optional(string, "app_service")
    image        = optional(string, "qlp-sandbox-host:latest")
    language_tag = optional(string, "latest")
    concurrency  = optional(number, 2)
    memory_mib   = optional(number)
    runtimes     = optional(list(string), [])
  })
  default = {}

  validation {
    condition     = alltrue([for runtime in var.sandbox.runtimes : contains(["oci", "docker", "bubblewrap", "sessions", "confined"], runtime)])
    error_message = "sandbox.runtimes: oci, docker, bubblewrap, sessions or confined, in the order in which they are tried; empty for the platform's default."
  }

  validation {
    condition     = contains(["app_service", "vm_scale_set", "container_apps_sessions"], var.sandbox.platform)
    error_message = "sandbox.platform: app_service, vm_scale_set or container_apps_sessions."
  }

  validation {
    condition     = var.sandbox.concurrency >= 1 && var.sandbox.concurrency <= 256
    error_message = "sandbox.concurrency: 1 to 256 (QLP_SANDBOX_CONCURRENCY)."
  }
}

variable "sandbox_machines" {
  description = "For platform vm_scale_set: size, zones, least and greatest number, image with Docker in it (null: Ubuntu), and the public SSH key that Azure requires."
  type = object({
    sku                  = optional(string, "Standard_D2ds_v5")
    zones                = optional(set(string), ["1", "2", "3"])
    minimum              = optional(number, 1)
    maximum              = optional(number, 4)
    source_image_id      = optional(string)
    admin_ssh_public_key = optional(string)
    encryption_at_host   = optional(bool, true)
  })
  default = {}

  validation {
    condition     = var.sandbox.platform != "vm_scale_set" || var.sandbox_machines.admin_ssh_public_key != null
    error_message = "sandbox_machines.admin_ssh_public_key: Azure requires one for Linux machines; set TF_VAR_sandbox_machines."
  }
}
