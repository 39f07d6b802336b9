"""Decimals that other AMQP libraries send are decoded exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest

from domain.contracts.amqp_decoding import decimal_of

#: Bits: digits of the coefficient, bits of the exponent, and its bias (IEEE 754-2008, table 3.6).
FORMATS = {32: (7, 8, 101), 64: (16, 10, 398), 128: (34, 14, 6176)}


def encoded(sign: int, coefficient: int, exponent: int, bits: int) -> int:
    """In one of the standard's two forms: the second is for coefficients that start with 100."""
    _, exponent_bits, bias = FORMATS[bits]
    below = bits - 1 - exponent_bits
    if coefficient < 1 << below:
        return sign << (bits - 1) | (exponent + bias) << below | coefficient
    rest = coefficient & ((1 << (below - 2)) - 1)
    return sign << (bits - 1) | 3 << (bits - 3) | (exponent + bias) << (below - 2) | rest


@pytest.mark.parametrize("bits", FORMATS)
@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("exponent", [-90, -2, 0, 5, 89])
def test_a_number_is_decoded(bits: int, sign: int, exponent: int) -> None:
    digits, _, _ = FORMATS[bits]
    for coefficient in (0, 1, 15, 8_388_608, 10**digits - 1):
        number = decimal_of(encoded(sign, coefficient, exponent, bits), bits)
        assert number == Decimal((sign, tuple(map(int, str(coefficient))), exponent))


@pytest.mark.parametrize("bits", FORMATS)
def test_infinities_and_nans_are_decoded(bits: int) -> None:
    assert decimal_of(0x78 << (bits - 8), bits) == Decimal("Infinity")
    assert decimal_of(0xF8 << (bits - 8), bits) == Decimal("-Infinity")
    assert decimal_of(0x7C << (bits - 8), bits).is_nan()
    assert decimal_of(0x7E << (bits - 8), bits).is_nan()


def test_a_coefficient_out_of_range_is_zero() -> None:
    assert decimal_of(0x6CB8967F + 1, 32) == 0
