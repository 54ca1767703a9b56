variable "registry_host" {
  description = "The host of the registry, which includes the account and the region."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}\\.dkr[.-]ecr(-fips)?\\.[a-z0-9-]+\\.", var.registry_host))
    error_message = "A host such as 095412845506.dkr.ecr.us-east-1.amazonaws.com."
  }
}

variable "stage" {
  description = "The first part of the paths of the repositories."
  type        = string
  default     = "prod"

  validation {
    condition     = can(regex("^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*$", var.stage))
    error_message = "A stage such as prod."
  }
}

variable "identity_provider" {
  description = "The issuer of the tokens: their claim iss, without https://."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9-]+(\\.[A-Za-z0-9-]+)+(/[A-Za-z0-9._~/-]*)?$", var.identity_provider))
    error_message = "A host such as auth.example.com, with a path if the claim has one."
  }
}

variable "audience" {
  description = "The audience of the tokens: their claim aud."
  type        = string

  validation {
    condition     = length(var.audience) > 0 && !can(regex("[$\"\\\\[:cntrl:]]", var.audience))
    error_message = "A text without quotes, backslashes and dollar signs."
  }
}

variable "name" {
  description = "The prefix of the names of the roles."
  type        = string
  default     = "ark-container"
}

variable "create_identity_provider" {
  description = "Whether this module creates the identity provider in the account."
  type        = bool
  default     = true
}

variable "organizations" {
  description = "The organizations with a template for repositories that ECR creates itself."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.organizations : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", id))])
    error_message = "GUIDs in lower case."
  }
}

variable "create_on_push" {
  description = "Whether a push creates a missing repository. AWS then also creates empty repositories for any client with a password."
  type        = bool
  default     = false
}

variable "lifecycle_policy" {
  description = "The lifecycle policy of the repositories that ECR creates itself: a JSON document."
  type        = string
  default     = null
}

variable "additional_actions" {
  description = "Actions that pushes need in addition to those of ECR, such as signer:SignPayload: [ecr] additional_actions."
  type        = list(object({ action = string, resource = string }))
  default     = []
}

variable "repository_policy" {
  description = "Whether repositories get a policy of their own when they are created: [ecr] repository_policy."
  type        = bool
  default     = false
}

variable "max_session_duration" {
  description = "The longest session of a role, in seconds; a login lasts no longer."
  type        = number
  default     = 43200

  validation {
    condition     = var.max_session_duration >= 3600 && var.max_session_duration <= 43200
    error_message = "From 1 to 12 hours."
  }
}
