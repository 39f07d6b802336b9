# Without the account's name, which bootstrap makes; its output backend_files is the complete file.
resource_group_name = "rg-qlp-tfstate"
container_name      = "tfstate-prod"
key                 = "qlp.tfstate"
use_azuread_auth    = true
