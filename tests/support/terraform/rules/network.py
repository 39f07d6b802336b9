"""Who can reach the deployment, and how."""

from __future__ import annotations

from collections import Counter

from tests.support.terraform.plans import SITES, SLOTS, Plan, Resource

#: Sub-resources of a service that each need a private endpoint.
_SUBRESOURCES = {
    "azurerm_key_vault": ["vault"],
    "azurerm_storage_account": ["blob", "queue", "table"],
    "azurerm_postgresql_flexible_server": ["postgresqlServer"],
    "azurerm_servicebus_namespace": ["namespace"],
    "azurerm_container_registry": ["registry"],
    **{kind: ["sites"] for kind in SITES},
}


def no_public_network_access(plan: Plan) -> list[str]:
    """Nothing answers public networks, and nothing has a public address."""
    found = [
        f"{each.address} answers public networks"
        for each in plan.resources()
        if each.values.get("public_network_access_enabled", False) is not False
    ]
    found += [
        f"{each.address} has no public_network_access_enabled = false"
        for each in plan.resources(*_SUBRESOURCES, *SLOTS)
        if "public_network_access_enabled" not in each.values
    ]
    public = ("azurerm_public_ip", "azurerm_postgresql_flexible_server_firewall_rule")
    return found + [f"{each.address} opens a way in" for each in plan.resources(*public)]


def every_service_has_private_endpoints(plan: Plan) -> list[str]:
    """One for each sub-resource, each with its name in DNS."""
    needed = Counter(
        name for each in plan.resources(*_SUBRESOURCES) for name in _SUBRESOURCES[each.type]
    )
    needed.update(f"sites-{slot.values['name']}" for slot in plan.resources(*SLOTS))
    endpoints = plan.resources("azurerm_private_endpoint")
    made = Counter(e.block("private_service_connection")["subresource_names"][0] for e in endpoints)
    nameless = [e.address for e in endpoints if not e.values["private_dns_zone_group"]]
    return [
        *(
            f"{count} private endpoint(s) for {name} missing"
            for name, count in (needed - made).items()
        ),
        *(
            f"{count} private endpoint(s) for {name} too many"
            for name, count in (made - needed).items()
        ),
        *(f"{address} has no name in DNS" for address in nameless),
    ]


def the_firewall_prevents(plan: Plan) -> list[str]:
    """Front Door blocks by managed rules, by rate and by country, for its every path."""
    policy = plan.only("azurerm_cdn_frontdoor_firewall_policy").values
    managed = {rule["type"]: rule["action"] for rule in policy["managed_rule"]}
    custom = {rule["type"]: rule for rule in policy["custom_rule"] if rule["enabled"]}
    countries = custom.get("MatchRule", {"match_condition": [{}]})["match_condition"][0]
    association = plan.only("azurerm_cdn_frontdoor_security_policy").block("security_policies")
    patterns = association["firewall"][0]["association"][0]["patterns_to_match"]
    return [
        problem
        for holds, problem in (
            (policy["mode"] == "Prevention", f"the firewall is in mode {policy['mode']}"),
            (policy["enabled"] is True, "the firewall is off"),
            (policy["request_body_check_enabled"] is True, "bodies are not looked at"),
            (managed.get("Microsoft_DefaultRuleSet") == "Block", "no managed rules that block"),
            (managed.get("Microsoft_BotManagerRuleSet") == "Block", "no rules against bots"),
            (custom.get("RateLimitRule", {}).get("action") == "Block", "no limit of the rate"),
            (countries.get("operator") == "GeoMatch", "no filter of countries"),
            (patterns == ["/*"], f"the firewall looks only at {patterns}"),
        )
        if not holds
    ]


def connections_are_encrypted(plan: Plan) -> list[str]:
    """TLS 1.3 where it can be the floor, 1.2 elsewhere, and no way without."""
    settings = plan.database_configuration()
    bus = plan.only("azurerm_servicebus_namespace").values
    rules = [
        (bus["minimum_tls_version"] == "1.2", "the bus has no TLS floor"),
        (settings.get("require_secure_transport") == "on", "the database answers without TLS"),
        (
            settings.get("ssl_min_protocol_version") in ("TLSv1.2", "TLSv1.3"),
            "the database has no TLS floor",
        ),
        *(
            (
                each.values["min_tls_version"] == "TLS1_2"
                and each.values["https_traffic_only_enabled"] is True,
                f"{each.address} has no TLS floor",
            )
            for each in plan.resources("azurerm_storage_account")
        ),
        *(
            (
                each.values["forwarding_protocol"] == "HttpsOnly"
                and each.values["https_redirect_enabled"] is True,
                f"{each.address} passes requests on without TLS",
            )
            for each in plan.resources("azurerm_cdn_frontdoor_route")
        ),
    ]
    found = [problem for holds, problem in rules if not holds]
    return found + [f for each in plan.resources(*SITES, *SLOTS) for f in _unencrypted_site(each)]


def _unencrypted_site(each: Resource) -> list[str]:
    site = each.block("site_config")
    found = [
        f"{each.address}: {name} is {site[name]}"
        for name in ("minimum_tls_version", "scm_minimum_tls_version")
        if site[name] != "1.3"
    ]
    if each.values["https_only"] is not True or site["ftps_state"] != "Disabled":
        found.append(f"{each.address} answers without TLS")
    return found


def nothing_calls_the_internet(plan: Plan) -> list[str]:
    """Without a language model, no rule lets a subnet out to anywhere but Azure's own services."""
    return [
        f"{each.address} lets out to {each.values['destination_address_prefix']}"
        for each in plan.resources("azurerm_network_security_rule")
        if each.values["direction"] == "Outbound"
        and each.values["access"] == "Allow"
        and each.values["destination_address_prefix"] in ("*", "Internet", "0.0.0.0/0")
    ]
