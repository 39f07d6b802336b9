"""The configuration file is read, or refused with the name of what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.local.servicebus.broker.config import (
    DEFAULT_CONFIG,
    ConfigError,
    load_config,
    parse_config,
)
from infra.local.servicebus.broker.durations import parse_duration
from infra.local.servicebus.broker.stored import EntitySettings

DAY = 24 * 60 * 60 * 1000


def config(**namespace: Any) -> str:
    return json.dumps({"UserConfig": {"Namespaces": [{"Name": "n", **namespace}]}})


def queue(**properties: Any) -> str:
    return config(Queues=[{"Name": "q", "Properties": properties}])


def test_the_application_s_entities() -> None:
    settings = EntitySettings(60_000, 10, 14 * DAY, True)
    loaded = load_config(DEFAULT_CONFIG)
    assert loaded.queues == dict.fromkeys(("intents", "sandbox-jobs", "sandbox-results"), settings)
    assert loaded.topics["intent-events"].subscriptions == {"process-manager": settings}


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "Config.json"
    path.write_text(queue(), encoding="utf-8-sig")
    assert list(load_config(path).queues) == ["q"]


def test_defaults_are_those_of_service_bus() -> None:
    loaded = parse_config(config(Queues=[{"Name": "q"}]))
    assert loaded.queues["q"] == EntitySettings(60_000, 10, None, False)


def test_comments_are_skipped_but_not_inside_strings() -> None:
    text = '// a\n{"UserConfig": {"Namespaces": [ // "b"\n{"Name": "n", "Queues": [{"Name": "a//b"'
    with pytest.raises(ConfigError, match=r"Colour: unknown.*'a//b'"):
        parse_config(text + ', "Colour": "//"}]}]}}')


def test_a_subscription_s_time_to_live_is_bounded_by_its_topic_s() -> None:
    subscription = {"Name": "s", "Properties": {"DefaultMessageTimeToLive": "P2D"}}
    topic = {"Name": "t", "Properties": {"DefaultMessageTimeToLive": "P1D"}}
    loaded = parse_config(config(Topics=[{**topic, "Subscriptions": [subscription]}]))
    assert loaded.topics["t"].subscriptions["s"].default_ttl_ms == DAY


def test_the_default_rule_is_accepted() -> None:
    rule = {"Name": "$Default", "Properties": {"SqlFilter": {"SqlExpression": "1 = 1"}}}
    subscription = {"Name": "s", "Rules": [rule]}
    parse_config(config(Topics=[{"Name": "t", "Subscriptions": [subscription]}]))


RULE = {
    "Name": "r",
    "Properties": {"FilterType": "Correlation", "CorrelationFilter": {"Label": "x"}},
}

#: Takes every message, and would change it.
ACTION = {
    "Name": "r",
    "Properties": {
        "FilterType": "Sql",
        "SqlFilter": {"SqlExpression": "1=1"},
        "Action": {"SqlExpression": "SET sys.To='x'"},
    },
}


@pytest.mark.parametrize(
    ("text", "path", "problem"),
    [
        ("{", "line 1", "not valid JSON"),
        ("[" * 100_000, "", "not valid JSON"),
        ("[]", "the document", "object"),
        ("{}", "UserConfig", "missing"),
        ('{"UserConfig": {"Namespaces": []}}', "UserConfig.Namespaces", "exactly one is needed"),
        (config(), "UserConfig.Namespaces[0]", "has neither Queues nor Topics"),
        (config(Queues={}), "Namespaces[0].Queues", "list"),
        (config(Queues=[{"Name": "a b"}]), "Queues[0].Name", "not an entity name"),
        (config(Queues=[{"Name": "q"}], Topics=[{"Name": "Q"}]), "Topics[0].Name", "already"),
        (queue(Colour=1), "Queues[0].Properties.Colour", "unknown"),
        (queue(RequiresSession=True), "Properties.RequiresSession", "not supported"),
        (queue(RequiresSession="no"), "Properties.RequiresSession", "must be of type bool"),
        (
            queue(RequiresDuplicateDetection=True),
            "Properties.RequiresDuplicateDetection",
            "not supported",
        ),
        (queue(ForwardTo="other"), "Properties.ForwardTo", "not supported"),
        (queue(LockDuration="PT6M"), "Properties.LockDuration", "between PT1S and PT5M"),
        (queue(LockDuration="1 minute"), "Properties.LockDuration", "ISO 8601"),
        (queue(MaxDeliveryCount=0), "Properties.MaxDeliveryCount", "between 1 and 2000"),
        (queue(MaxDeliveryCount=True), "Properties.MaxDeliveryCount", "must be of type int"),
        (
            queue(DefaultMessageTimeToLive="PT0S"),
            "Properties.DefaultMessageTimeToLive",
            "at least",
        ),
        (
            config(Topics=[{"Name": "t", "Subscriptions": [{"Name": "s", "Rules": [RULE]}]}]),
            "Topics[0].Subscriptions[0].Rules[0].Properties.FilterType",
            "Correlation rules are not supported",
        ),
        (
            config(Topics=[{"Name": "t", "Subscriptions": [{"Name": "s", "Rules": [ACTION]}]}]),
            "Topics[0].Subscriptions[0].Rules[0].Properties.Action",
            "actions are not supported",
        ),
    ],
)
def test_what_is_wrong_is_named(text: str, path: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(text)
    assert path in str(refused.value)
    assert problem in str(refused.value)


def test_the_entity_is_named_too() -> None:
    bad = {"Name": "s", "Properties": {"RequiresSession": True}}
    with pytest.raises(ConfigError, match="entity 't/s'"):
        parse_config(config(Topics=[{"Name": "t", "Subscriptions": [bad]}]))


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("PT1M", 60_000),
        ("PT30S", 30_000),
        ("P14D", 14 * DAY),
        ("P1DT2H3M4.5S", DAY + 2 * 3_600_000 + 3 * 60_000 + 4500),
    ],
)
def test_durations_are_parsed(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize("text", ["", "P", "PT", "P1Y", "1M", "PT1M ", "P1DT", "PT-1S", "pt1s"])
def test_a_wrong_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        parse_duration(text)


EXAMPLE = (Path(__file__).with_name("emulator_config.json")).read_text()


def test_the_emulator_s_example_is_refused_feature_by_feature() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(EXAMPLE)
    lines = str(refused.value).splitlines()
    where = "UserConfig.Namespaces[0].Topics[0].Subscriptions"
    assert [line.split(": ")[0] for line in lines] == [
        f"{where}[{number}].Rules[0].Properties.FilterType" for number in (0, 1, 3)
    ]
    assert "Correlation rules are not supported" in lines[0]
    assert "Sql rules are not supported" in lines[2]
    assert "'topic.1/subscription.4'" in lines[2]


def test_without_its_rules_the_emulator_s_example_loads() -> None:
    document = json.loads(EXAMPLE.partition("\n")[2])
    [namespace] = document["UserConfig"]["Namespaces"]
    for subscription in namespace["Topics"][0]["Subscriptions"]:
        subscription.pop("Rules", None)
    loaded = parse_config(json.dumps(document))
    assert loaded.queues["queue.1"].max_delivery_count == 3
    assert set(loaded.topics["topic.1"].subscriptions) == {
        f"subscription.{n}" for n in (1, 2, 3, 4)
    }


def test_all_that_is_not_supported_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(queue(RequiresSession=True, RequiresDuplicateDetection=True, ForwardTo="a"))
    assert len(str(refused.value).splitlines()) == 3
