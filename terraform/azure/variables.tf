variable "name" {
  type        = string
  description = "One run's own name: of its resource group, and the beginning of every other name."

  validation {
    # A storage account's name, the narrowest of all: letters and digits, 3 to 24.
    condition     = can(regex("^[a-z][a-z0-9]{5,23}$", var.name))
    error_message = "name must be 6 to 24 lowercase letters and digits."
  }
}

variable "stage" {
  type        = string
  description = "store: the storage account; machine: disks and machine as well; stopped: the machine is gone, its disks are not; collect: the output disk can be read as well."

  validation {
    condition     = contains(["store", "machine", "stopped", "collect"], var.stage)
    error_message = "stage must be store, machine, stopped or collect."
  }
}

variable "region" {
  type        = string
  description = "Azure region, like westeurope."
}

variable "size" {
  type        = string
  description = "Size of the machine, of a series with Trusted Launch and a SCSI controller, like Standard_D8s_v5, Standard_NC24ads_A100_v4 or Standard_NC40ads_H100_v5."
}

variable "output_gib" {
  type        = number
  description = "Size of the output disk in GiB."
}

variable "run" {
  type        = string
  description = "The run's name in aicert.toml, for the tag of that name."
}

variable "expires" {
  type        = string
  description = "When nothing of this may be running any more, RFC 3339: end of the storage account's signature, and the time of the auto-shutdown."
}

variable "starts" {
  type        = string
  description = "From when the storage account's signature is valid, RFC 3339; its month is the first of the budget."
}

variable "budget" {
  type        = number
  default     = 0
  description = "A monthly amount, in the subscription's currency, at which its owners are told; 0 for no budget."
}
