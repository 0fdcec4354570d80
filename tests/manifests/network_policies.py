"""Evaluates NetworkPolicies as the API defines them: which clients reach a port of a pod."""

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from tools.manifests import Manifest


@dataclass(frozen=True)
class Peer:
    """A pod with its labels, or an address outside of all pods."""

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    address: str = "10.0.0.1"


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Return whether a label selector matches; an empty one matches everything."""
    operators = {"In": lambda key, values: labels.get(key) in values}
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        operators[expression["operator"]](expression["key"], expression["values"])
        for expression in selector.get("matchExpressions", [])
    )


def _allows(rule: dict[str, Any], policy_namespace: str, client: Peer, port: str) -> bool:
    if "ports" in rule and port not in [entry["port"] for entry in rule["ports"]]:
        return False
    return "from" not in rule or any(_is_peer(entry, policy_namespace, client) for entry in rule["from"])


def _is_peer(entry: dict[str, Any], policy_namespace: str, client: Peer) -> bool:
    if "ipBlock" in entry:
        return ipaddress.ip_address(client.address) in ipaddress.ip_network(entry["ipBlock"]["cidr"])
    if not client.namespace:
        return False
    namespace_labels = {"kubernetes.io/metadata.name": client.namespace}
    is_in_namespace = (
        matches(entry["namespaceSelector"], namespace_labels)
        if "namespaceSelector" in entry
        else client.namespace == policy_namespace
    )
    return is_in_namespace and matches(entry.get("podSelector", {}), client.labels)


def reaches(policies: list[Manifest], client: Peer, target: Peer, port: str = "http") -> bool:
    """Return whether the client may open a connection to a named port of the target pod."""
    selecting = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == target.namespace
        and "Ingress" in policy["spec"]["policyTypes"]
        and matches(policy["spec"]["podSelector"], target.labels)
    ]
    return not selecting or any(
        _allows(rule, policy["metadata"]["namespace"], client, port)
        for policy in selecting
        for rule in policy["spec"].get("ingress", [])
    )
