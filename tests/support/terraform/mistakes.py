"""Mistakes, each with the rule that must find it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.support.terraform.plans import Plan, Workspace
from tests.support.terraform.rules import Rule, identity, network, services


@dataclass(frozen=True)
class Mistake:
    """``old`` in ``file`` becomes ``new``; then ``rule`` says ``finding``."""

    rule: Rule
    finding: str
    file: str
    old: str
    new: str


MISTAKES = [
    Mistake(
        network.no_public_network_access,
        "module.database.azurerm_postgresql_flexible_server.this answers public networks",
        "modules/database/main.tf",
        "public_network_access_enabled = !var.private",
        "public_network_access_enabled = true",
    ),
    Mistake(
        network.every_service_has_private_endpoints,
        "1 private endpoint(s) for vault missing",
        "endpoints.tf",
        'key-vault     = { zone = "key-vault", subresource',
        'key-vault     = { zone = "none", subresource',
    ),
    Mistake(
        network.nothing_calls_the_internet,
        "lets out to Internet",
        "main.tf",
        "app_https_egress       = var.language_model != null || ",
        "app_https_egress       = true || ",
    ),
    Mistake(
        network.the_firewall_prevents,
        "the firewall is in mode Detection",
        "modules/edge/waf.tf",
        "var.waf_mode",
        '"Detection"',
    ),
    Mistake(
        network.connections_are_encrypted,
        "module.app_service.azurerm_linux_function_app.this: minimum_tls_version is 1.1",
        "modules/app_service/locals.tf",
        ' minimum_tls_version               = "1.3"',
        ' minimum_tls_version               = "1.1"',
    ),
    Mistake(
        identity.outputs_hold_no_secret,
        "output url shows application_insights_connection_string",
        "outputs.tf",
        'value       = "https://',
        "value       = nonsensitive(module.monitoring.application_insights_connection_string) == "
        '"" ? "" : "https://',
    ),
    Mistake(
        identity.the_sandbox_does_its_job_and_nothing_else,
        "it is granted ['peek', 'pull-image', 'receive-jobs', 'send-results']",
        "access.tf",
        "  sandbox_grants = merge(\n    {\n",
        "  sandbox_grants = merge(\n    {\n"
        '      "peek" = { role = "Reader", scope = module.messaging.queue_ids["intents"] }\n',
    ),
    Mistake(
        identity.the_application_reaches_every_entity,
        "the application lacks send-intents: Azure Service Bus Data Sender",
        "access.tf",
        '    { for name, id in module.messaging.queue_ids : "send-${name}" => { role = '
        "local.bus_sender, scope = id } },\n",
        "",
    ),
    Mistake(
        identity.roles_are_narrow,
        'azurerm_role_assignment.sandbox["peek"] grants Reader',
        "access.tf",
        "",
        "",
    ),
    Mistake(
        identity.identities_sign_in_without_secrets,
        "the bus takes shared keys",
        "modules/messaging/main.tf",
        "local_auth_enabled            = false",
        "local_auth_enabled            = true",
    ),
    Mistake(
        services.the_bus_is_what_the_application_expects,
        "intents is {'lock_ms': 300000, 'deliveries': 10, 'ttl_ms': 1209600000, "
        "'dead_letters_expired': True} and should be {'lock_ms': 60000",
        "modules/messaging/main.tf",
        "name         = each.key\n  namespace_id = azurerm_servicebus_namespace.this.id\n\n"
        "  lock_duration                        = each.value.LockDuration",
        "name         = each.key\n  namespace_id = azurerm_servicebus_namespace.this.id\n\n"
        '  lock_duration                        = "PT5M"',
    ),
    Mistake(
        services.vectors_are_allowed,
        "azure.extensions lacks VECTOR",
        "modules/database/main.tf",
        '"VECTOR"',
        '"PG_TRGM"',
    ),
    Mistake(
        services.everything_is_diagnosed,
        "diagnostic settings are needed",
        "diagnostics.tf",
        '      database        = { id = module.database.id, groups = ["allLogs"] }\n',
        "",
    ),
    Mistake(
        services.data_is_kept,
        "locks are ['key-vault', 'service-bus']",
        "locks.tf",
        "    database    = module.database.id\n",
        "",
    ),
    Mistake(
        services.everything_is_tagged,
        "azurerm_private_endpoint.this",
        "endpoints.tf",
        "  tags                          = local.tags\n",
        "",
    ),
]


class Plans:
    """Plans of the configuration as it is, and of a copy with mistakes; each made when asked for.

    The files of tests are shared among processes, and few of them need all plans.
    """

    def __init__(self, folder: Path, mirror: Path) -> None:
        self._folder = folder
        self._mirror = mirror

    @cached_property
    def workspace(self) -> Workspace:
        """The configuration as it is."""
        return Workspace.initialised(self._folder / "as-it-is", self._mirror)

    @cached_property
    def prod(self) -> Plan:
        """Of production."""
        return self.workspace.plan("prod")

    @cached_property
    def dev(self) -> Plan:
        """Of development."""
        return self.workspace.plan("dev")

    @cached_property
    def mistaken(self) -> Plan:
        """Of production, with every mistake of `MISTAKES`."""
        mistaken = self.workspace.copy(self._folder / "mistaken")
        for mistake in MISTAKES:
            mistaken.replace(mistake.file, mistake.old, mistake.new)
        return mistaken.plan("prod")
