# What the driver needs. Two are secrets, and end with the run.

output "store" {
  description = "The storage account's blob service, with a signature."
  value       = "${azurerm_storage_account.run.primary_blob_endpoint}${data.azurerm_storage_account_sas.run.sas}"
  sensitive   = true
}

output "power_state" {
  description = "Of the machine, when this state was refreshed last; empty where there is none."
  value       = local.machine == 1 ? data.azurerm_virtual_machine.run[0].power_state : ""
}

output "output_disk" {
  description = "The output disk's bytes, with a signature; empty before the stage collect."
  value       = var.stage == "collect" ? azurerm_managed_disk_sas_token.output[0].sas_url : ""
  sensitive   = true
}
