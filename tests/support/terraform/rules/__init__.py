"""What must hold of a plan, beyond what general scanners know. A rule returns what breaks it."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.terraform.plans import Plan
from tests.support.terraform.rules.identity import (
    identities_sign_in_without_secrets,
    outputs_hold_no_secret,
    roles_are_narrow,
    the_application_reaches_every_entity,
    the_sandbox_does_its_job_and_nothing_else,
)
from tests.support.terraform.rules.network import (
    connections_are_encrypted,
    every_service_has_private_endpoints,
    no_public_network_access,
    nothing_calls_the_internet,
    the_firewall_prevents,
)
from tests.support.terraform.rules.services import (
    data_is_kept,
    everything_is_diagnosed,
    everything_is_tagged,
    nothing_is_premium,
    the_bus_is_what_the_application_expects,
    vectors_are_allowed,
)

Rule = Callable[[Plan], list[str]]

ALWAYS: list[Rule] = [
    connections_are_encrypted,
    outputs_hold_no_secret,
    the_sandbox_does_its_job_and_nothing_else,
    the_application_reaches_every_entity,
    roles_are_narrow,
    identities_sign_in_without_secrets,
    the_bus_is_what_the_application_expects,
    vectors_are_allowed,
    everything_is_diagnosed,
    everything_is_tagged,
]

PRODUCTION: list[Rule] = [
    *ALWAYS,
    no_public_network_access,
    nothing_calls_the_internet,
    every_service_has_private_endpoints,
    the_firewall_prevents,
    data_is_kept,
]

DEVELOPMENT: list[Rule] = [*ALWAYS, nothing_is_premium]
