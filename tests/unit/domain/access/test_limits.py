"""A run gets what it asks for, else its tenant's default, and never more than the ceiling."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.access.limits import DEFAULTS, NAMES, TenantLimits
from domain.contracts.job import JobLimits
from domain.intents.content import Limits
from domain.intents.struct import plain

SECONDS = st.none() | st.floats(min_value=0.1, max_value=300)
LIMITS = st.builds(
    Limits,
    wall_seconds=SECONDS,
    processes=st.none() | st.integers(1, 512),
    artifact_bytes=st.none() | st.integers(0, 64 * 1024**2),
)


def test_the_products_defaults_apply_where_nothing_is_set() -> None:
    assert TenantLimits().resolve(Limits()) == DEFAULTS
    assert JobLimits.model_validate(plain(DEFAULTS)) == JobLimits()


def test_the_tenants_default_applies_to_what_was_not_asked_for() -> None:
    tenant = TenantLimits(defaults=Limits(wall_seconds=30))
    assert tenant.resolve(Limits()).wall_seconds == 30
    assert tenant.resolve(Limits(wall_seconds=5)).wall_seconds == 5


def test_a_default_never_exceeds_a_lower_ceiling() -> None:
    tenant = TenantLimits(ceilings=Limits(wall_seconds=2, memory_bytes=32 * 1024**2))
    got = tenant.resolve(Limits())
    assert (got.wall_seconds, got.memory_bytes) == (2, 32 * 1024**2)


def test_a_request_above_a_ceiling_is_named_with_the_ceiling() -> None:
    tenant = TenantLimits(ceilings=Limits(wall_seconds=2, processes=8))
    assert tenant.exceeded(Limits(wall_seconds=2.5, processes=8)) == {"wall_seconds": (2.5, 2)}
    assert tenant.exceeded(Limits()) == {}


@given(LIMITS, LIMITS, LIMITS)
def test_every_limit_is_set_and_within_bounds(
    defaults: Limits, ceilings: Limits, asked: Limits
) -> None:
    got = TenantLimits(defaults, ceilings).resolve(asked)
    JobLimits.model_validate(plain(got))  # the host takes it
    for name in NAMES:
        ceiling = getattr(ceilings, name)
        assert getattr(got, name) is not None
        assert ceiling is None or getattr(got, name) <= ceiling
