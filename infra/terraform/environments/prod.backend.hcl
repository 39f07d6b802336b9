# The account's name is bootstrap's; its output backend_files is this file, complete.
resource_group_name = "rg-qlp-tfstate"
container_name      = "tfstate-prod"
key                 = "qlp.tfstate"
use_azuread_auth    = true
