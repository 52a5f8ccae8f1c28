variable "name" {
  type        = string
  description = "The run's resource group, and the prefix of every other name."

  validation {
    # Storage accounts have the strictest rule for names: 3 to 24 letters and digits.
    condition     = can(regex("^[a-z][a-z0-9]{5,23}$", var.name))
    error_message = "name must be 6 to 24 lowercase letters and digits."
  }
}

variable "stage" {
  type        = string
  description = "store: the storage account; machine: disks and machine too; stopped: the disks without the machine; collect: the output disk can be read too."

  validation {
    condition     = contains(["store", "machine", "stopped", "collect"], var.stage)
    error_message = "stage must be store, machine, stopped or collect."
  }
}

variable "region" {
  type        = string
  description = "Azure region, such as westeurope."
}

variable "size" {
  type        = string
  description = "Size of the machine, from a series with Trusted Launch and a SCSI controller, such as Standard_D8s_v5, Standard_NC24ads_A100_v4 or Standard_NC40ads_H100_v5."
}

variable "output_gib" {
  type        = number
  description = "Size of the output disk in GiB."
}

variable "run" {
  type        = string
  description = "The run's name in aicert.toml, for the `run` tag."
}

variable "expires" {
  type        = string
  description = "When nothing may be running any more, RFC 3339: the storage account's signature expires, and the machine shuts down."
}

variable "starts" {
  type        = string
  description = "When the storage account's signature becomes valid, RFC 3339; the budget starts in that month."
}

variable "budget" {
  type        = number
  default     = 0
  description = "The monthly amount, in the subscription's currency, at which the owners are notified; 0 for no budget."
}

variable "port" {
  type        = number
  default     = 0
  description = "The one TCP port of a machine that serves; 0 for a machine that trains, which has none."
}

variable "clients" {
  type        = list(string)
  default     = []
  description = "Networks that may reach that port, such as 203.0.113.0/24."

  validation {
    condition     = alltrue([for network in var.clients : can(cidrhost(network, 0))])
    error_message = "clients must be networks such as 203.0.113.0/24."
  }
}
