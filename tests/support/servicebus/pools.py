"""Entities for the tests of the broker: queues of several kinds and topics, many of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Queues of each kind; a test takes one that no other test uses.
_POOLS: dict[str, dict[str, Any]] = {
    "steady": {"LockDuration": "PT1M", "MaxDeliveryCount": 10},
    "brief": {"LockDuration": "PT5S", "MaxDeliveryCount": 3},
    "renewed": {"LockDuration": "PT3S", "MaxDeliveryCount": 10},
    "expiring": {"DefaultMessageTimeToLive": "PT1S", "DeadLetteringOnMessageExpiration": True},
    "dropping": {"DefaultMessageTimeToLive": "PT5S", "DeadLetteringOnMessageExpiration": False},
}

#: How many there are of each kind of queue, and of topics.
POOL_SIZE = 60


def write_config(path: Path) -> Path:
    """Write the broker's configuration with all of them to ``path``."""
    queues = [
        {"Name": f"{pool}-{index}", "Properties": properties}
        for pool, properties in _POOLS.items()
        for index in range(POOL_SIZE)
    ]
    topics = [
        {"Name": f"topic-{index}", "Subscriptions": [{"Name": "one"}, {"Name": "two"}]}
        for index in range(POOL_SIZE)
    ]
    namespace = {"Name": "tests", "Queues": queues, "Topics": topics}
    path.write_text(json.dumps({"UserConfig": {"Namespaces": [namespace]}}))
    return path
