"""What the services are like: entities, durability, logs, cost."""

from __future__ import annotations

from typing import Any

from infra.local.servicebus.broker.config import DEFAULT_CONFIG, load_config
from infra.local.servicebus.broker.durations import parse_duration
from tests.support.terraform.plans import SITES, Plan

#: Services whose logs or metrics say what happened.
_DIAGNOSED = {
    "azurerm_key_vault": 1,
    "azurerm_storage_account": 3,
    "azurerm_postgresql_flexible_server": 1,
    "azurerm_servicebus_namespace": 1,
    "azurerm_container_registry": 1,
    "azurerm_service_plan": 1,
    "azurerm_virtual_network": 1,
    "azurerm_network_security_group": 1,
    "azurerm_log_analytics_workspace": 1,
    "azurerm_cdn_frontdoor_profile": 1,
    **dict.fromkeys(SITES, 1),
    "azurerm_linux_function_app_slot": 1,
}


def the_bus_is_what_the_application_expects(plan: Plan) -> list[str]:
    """Queues, topics and subscriptions are those of the embedded broker, as it reads its file."""
    expected = load_config(DEFAULT_CONFIG)
    wanted: dict[str, Any] = {name: _entity(vars(e)) for name, e in expected.queues.items()}
    for topic, config in expected.topics.items():
        wanted |= {f"{topic}/{name}": _entity(vars(e)) for name, e in config.subscriptions.items()}
    types = ("azurerm_servicebus_queue", "azurerm_servicebus_subscription")
    planned = {each.index: _planned_entity(each.values) for each in plan.resources(*types)}
    topics = {each.values["name"] for each in plan.resources("azurerm_servicebus_topic")}
    found = [] if topics == set(expected.topics) else [f"topics are {sorted(topics)}"]
    return found + [
        f"{name} is {planned.get(name)} and should be {wanted.get(name)}"
        for name in sorted(wanted.keys() | planned.keys())
        if planned.get(name) != wanted.get(name)
    ]


def data_is_kept(plan: Plan) -> list[str]:
    """Encrypted with keys of ours, backed up, with a standby, and locked against deletion."""
    server = plan.only("azurerm_postgresql_flexible_server")
    locks = {each.index for each in plan.resources("azurerm_management_lock")}
    vault = plan.only("azurerm_key_vault").values
    rules = [
        (bool(server.values["customer_managed_key"]), "the database has no key of ours"),
        (server.values["backup_retention_days"] == 35, "backups are not kept for 35 days"),
        (server.block("high_availability").get("mode") == "ZoneRedundant", "no standby"),
        (_bus_has_key(plan), "the bus has no key of ours"),
        (vault["purge_protection_enabled"] is True, "keys can be purged"),
        (locks == {"database", "key-vault", "service-bus"}, f"locks are {sorted(locks)}"),
    ]
    return [problem for holds, problem in rules if not holds]


def vectors_are_allowed(plan: Plan) -> list[str]:
    """Vectors may be created, and no transaction stays open for ever."""
    settings = plan.database_configuration()
    rules = [
        ("VECTOR" in settings.get("azure.extensions", ""), "azure.extensions lacks VECTOR"),
        (
            0 < int(settings.get("idle_in_transaction_session_timeout", "0")) <= 60_000,
            "idle transactions are not ended",
        ),
    ]
    return [problem for holds, problem in rules if not holds]


def everything_is_diagnosed(plan: Plan) -> list[str]:
    """As many diagnostic settings as there are services, each with logs or metrics."""
    needed = sum(_DIAGNOSED[each.type] for each in plan.resources(*_DIAGNOSED))
    settings = plan.resources("azurerm_monitor_diagnostic_setting")
    empty = [
        e.address for e in settings if not (e.values["enabled_log"] or e.values["enabled_metric"])
    ]
    found = [f"{address} collects nothing" for address in empty]
    if len(settings) != needed:
        found.append(f"{needed} diagnostic settings are needed, {len(settings)} are planned")
    return found


def everything_is_tagged(plan: Plan) -> list[str]:
    """Whatever can carry tags says what it belongs to."""
    wanted = {"project", "environment", "managed-by", "owner", "cost-center"}
    return [
        f"{each.address} lacks tags: {sorted(wanted - (each.values['tags'] or {}).keys())}"
        for each in plan.resources()
        if "tags" in each.values and wanted - (each.values["tags"] or {}).keys()
    ]


def nothing_is_premium(plan: Plan) -> list[str]:
    """Small sizes, no standby, no Front Door, one private endpoint."""
    dear = [
        f"{each.address} is {each.values['sku']}"
        for each in plan.resources("azurerm_servicebus_namespace", "azurerm_container_registry")
        if each.values["sku"] == "Premium"
    ]
    plans = [e for e in plan.resources("azurerm_service_plan") if e.values["sku_name"][0] != "B"]
    servers = plan.resources("azurerm_postgresql_flexible_server")
    burst = [e for e in servers if not e.values["sku_name"].startswith("B_")]
    kinds = (
        "azurerm_cdn_frontdoor_profile",
        "azurerm_nat_gateway",
        "azurerm_network_ddos_protection_plan",
    )
    dear += [
        f"{each.address} is not for development"
        for each in [*plans, *burst, *plan.resources(*kinds)]
    ]
    endpoints = len(plan.resources("azurerm_private_endpoint"))
    return dear if endpoints == 1 else [*dear, f"{endpoints} private endpoints"]


def _bus_has_key(plan: Plan) -> bool:
    return bool(plan.only("azurerm_servicebus_namespace").values["customer_managed_key"])


def _entity(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "lock_ms": settings["lock_duration_ms"],
        "deliveries": settings["max_delivery_count"],
        "ttl_ms": settings["default_ttl_ms"],
        "dead_letters_expired": settings["dead_letter_on_expiration"],
    }


def _planned_entity(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "lock_ms": parse_duration(values["lock_duration"]),
        "deliveries": values["max_delivery_count"],
        "ttl_ms": parse_duration(values["default_message_ttl"]),
        "dead_letters_expired": values["dead_lettering_on_message_expiration"],
    }
