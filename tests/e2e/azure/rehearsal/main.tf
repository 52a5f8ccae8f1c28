# The stages, variables and outputs of terraform/azure with nothing but the built-in provider: each
# resource calls a program that plays the cloud (../cloud.py), in folder `world`.

terraform {
  required_version = ">= 1.6"
}

variable "name" { type = string }
variable "stage" { type = string }
variable "region" { type = string }
variable "size" { type = string }
variable "output_gib" { type = number }
variable "run" { type = string }
variable "expires" { type = string }
variable "starts" { type = string }
variable "budget" { type = number }
variable "port" { type = number }
variable "clients" { type = list(string) }

# Of the played cloud, from the environment.
variable "cloud" { type = string }
variable "world" { type = string }
variable "store" { type = string }
variable "output_disk" { type = string }

locals {
  machine = var.stage == "machine" ? 1 : 0
  disks   = var.stage == "store" ? 0 : 1
}

resource "terraform_data" "account" {
  input = "${var.cloud} ${var.world} account"

  lifecycle {
    precondition {
      condition     = !fileexists("${var.world}/refuse-plan")
      error_message = "AuthorizationFailed: the client does not have authorization to perform action"
    }
  }

  provisioner "local-exec" {
    command = "${self.input} create ${var.output_gib}"
  }

  provisioner "local-exec" {
    when    = destroy
    command = "${self.input} destroy"
  }
}

resource "terraform_data" "disks" {
  count = local.disks
  input = "${var.cloud} ${var.world} disks"

  provisioner "local-exec" {
    command = "${self.input} create ${var.output_gib}"
  }

  provisioner "local-exec" {
    when    = destroy
    command = "${self.input} destroy"
  }

  depends_on = [terraform_data.account]
}

resource "terraform_data" "machine" {
  count = local.machine
  input = "${var.cloud} ${var.world} machine"

  provisioner "local-exec" {
    command = "${self.input} create ${var.output_gib}"
  }

  provisioner "local-exec" {
    when    = destroy
    command = "${self.input} destroy"
  }

  depends_on = [terraform_data.disks]
}

resource "terraform_data" "signature" {
  count = var.stage == "collect" ? 1 : 0
  input = "${var.cloud} ${var.world} signature"

  provisioner "local-exec" {
    command = "${self.input} create ${var.output_gib}"
  }

  provisioner "local-exec" {
    when    = destroy
    command = "${self.input} destroy"
  }

  depends_on = [terraform_data.disks]
}

output "store" {
  value     = var.store
  sensitive = true
}

output "power_state" {
  value = local.machine == 0 ? "" : fileexists("${var.world}/off") ? "stopped" : "running"
}

output "address" {
  value = var.port > 0 && local.machine == 1 ? "127.0.0.1" : ""
}

output "output_disk" {
  value     = var.stage == "collect" ? var.output_disk : ""
  sensitive = true
}
