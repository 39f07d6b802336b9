"""Who may do what, and what nobody is told."""

from __future__ import annotations

import re

from infra.local.servicebus.broker.config import DEFAULT_CONFIG, load_config
from tests.support.terraform.plans import SITES, SLOTS, TERRAFORM, Plan

_SECRET = re.compile(r"(_key|_keys|password|connection_string|secret|token|sas)$")

_RECEIVER = "Azure Service Bus Data Receiver"
_SENDER = "Azure Service Bus Data Sender"

_GRANTABLE = {
    "AcrPull",
    _RECEIVER,
    _SENDER,
    "Cognitive Services OpenAI User",
    "Key Vault Crypto Service Encryption User",
    "Key Vault Crypto User",
    "Key Vault Secrets User",
    "Storage Blob Data Owner",
    "Storage Queue Data Contributor",
    "Storage Table Data Contributor",
}


def outputs_hold_no_secret(plan: Plan) -> list[str]:
    """No output names anything that is a secret, directly or through a module."""
    found = []
    for name, references in plan.output_references().items():
        leaves = {re.sub(r"\[.*?\]", "", reference).rsplit(".", 1)[-1] for reference in references}
        found += [f"output {name} shows {leaf}" for leaf in sorted(leaves) if _SECRET.search(leaf)]
    marked = plan.document["planned_values"].get("outputs", {})
    return found + [
        f"output {key} is sensitive" for key, value in marked.items() if value["sensitive"]
    ]


def the_sandbox_does_its_job_and_nothing_else(plan: Plan) -> list[str]:
    """Its identity receives from one queue, sends to the other, and pulls its image."""
    expected = {
        "receive-jobs": ("local.bus_receiver", 'module.messaging.queue_ids["sandbox-jobs"]'),
        "send-results": ("local.bus_sender", 'module.messaging.queue_ids["sandbox-results"]'),
        "pull-image": ('"AcrPull"', "local.registry.id"),
    }
    grants = plan.resources("azurerm_role_assignment")
    made = {e.index for e in grants if e.address.startswith("azurerm_role_assignment.sandbox[")}
    found = [] if made == set(expected) else [f"it is granted {sorted(made)}"]
    blocks = {
        address
        for address, expressions in plan.configured("azurerm_role_assignment")
        if any(
            'identities["sandbox"]' in name for name in expressions["principal_id"]["references"]
        )
    }
    if blocks != {"azurerm_role_assignment.sandbox"}:
        found.append(f"it is granted something by {sorted(blocks)}")
    # Scopes are unknown in a plan: what is written is compared.
    source = (TERRAFORM / "access.tf").read_text()
    for key, (role, scope) in expected.items():
        written = re.search(rf'"{key}" *= \{{ role = (\S+), scope = (\S+) \}}', source)
        if written is None or written.groups() != (role, scope):
            found.append(f"{key} is not {role} on {scope}")
    return found


def the_application_reaches_every_entity(plan: Plan) -> list[str]:
    """It receives from each entity, dead letters included, and sends to each.

    To those it receives from, too: the copies of messages that are tried again later.
    """
    entities = load_config(DEFAULT_CONFIG)
    subscriptions = [
        f"{topic}-{name}"
        for topic, config in entities.topics.items()
        for name in config.subscriptions
    ]
    wanted = {
        **{f"receive-{name}": _RECEIVER for name in (*entities.queues, *subscriptions)},
        **{f"send-{name}": _SENDER for name in (*entities.queues, *entities.topics)},
    }
    granted = {
        each.index: each.values["role_definition_name"]
        for each in plan.resources("azurerm_role_assignment")
        if each.address.startswith("azurerm_role_assignment.app[")
    }
    return [
        f"the application lacks {key}: {role}"
        for key, role in wanted.items()
        if granted.get(key) != role
    ]


def roles_are_narrow(plan: Plan) -> list[str]:
    """Only roles over data are granted, none over resources."""
    return [
        f"{each.address} grants {each.values['role_definition_name']}"
        for each in plan.resources("azurerm_role_assignment")
        if each.values["role_definition_name"] not in _GRANTABLE
    ]


def identities_sign_in_without_secrets(plan: Plan) -> list[str]:
    """No passwords, no shared keys, no administrators' accounts."""
    authentication = plan.only("azurerm_postgresql_flexible_server").block("authentication")
    rules = [
        (authentication["password_auth_enabled"] is False, "the database takes passwords"),
        (authentication["active_directory_auth_enabled"] is True, "the database takes no identity"),
        (
            plan.only("azurerm_servicebus_namespace").values["local_auth_enabled"] is False,
            "the bus takes shared keys",
        ),
        *(
            (
                each.values["shared_access_key_enabled"] is False,
                f"{each.address} takes account keys",
            )
            for each in plan.resources("azurerm_storage_account")
        ),
        *(
            (
                each.values["admin_enabled"] is False,
                f"{each.address} has an administrator's password",
            )
            for each in plan.resources("azurerm_container_registry")
        ),
        *(
            (
                each.values["rbac_authorization_enabled"] is True,
                f"{each.address} has access policies",
            )
            for each in plan.resources("azurerm_key_vault")
        ),
        *(
            (
                each.values["webdeploy_publish_basic_authentication_enabled"] is False
                and each.values["ftp_publish_basic_authentication_enabled"] is False,
                f"{each.address} takes a publishing password",
            )
            for each in plan.resources(*SITES, *SLOTS)
        ),
    ]
    return [problem for holds, problem in rules if not holds]
