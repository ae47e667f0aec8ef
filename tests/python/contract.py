# SPDX-License-Identifier: Apache-2.0
"""What every file must keep to: results/schema.json, which also has a word for every key in it.

The schema itself allows unknown keys, as later versions add some; a test of this version does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from triphase.records import explain_invalid, validator


def assert_contract(data: Any, definition: str = "", own: tuple[str, ...] = ()) -> None:
    """Keeps to results/schema.json, which has a word for each key, but for the caller's `own`."""
    assert explain_invalid(data, definition) is None
    unknown = set(undescribed(data, validator(definition).schema)) - {f"$.{key}" for key in own}
    assert not unknown, "results/schema.json has no word for these keys"


def undescribed(data: Any, *schemas: Any, path: str = "$") -> Iterator[str]:
    """The keys that none of the schemas names; what a schema leaves open may have any."""
    parts = [part for schema in schemas for part in _parts(schema)]
    if isinstance(data, list):
        items = [part["items"] for part in parts if "items" in part]
        for item in data:
            yield from undescribed(item, *items, path=f"{path}[]")
    if isinstance(data, dict):
        closed = any("properties" in part for part in parts)
        others = [p["additionalProperties"] for p in parts if "additionalProperties" in p]
        for key, value in data.items():
            named = [p["properties"][key] for p in parts if key in p.get("properties", {})]
            if closed and not named and not others:
                yield f"{path}.{key}"
            yield from undescribed(value, *(named or others), path=f"{path}.{key}")


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and all that it refers to or combines, whatever its conditions."""
    if not isinstance(schema, dict):
        return
    yield schema
    if "$ref" in schema:
        yield from _parts(validator().schema["$defs"][schema["$ref"].removeprefix("#/$defs/")])
    for part in [*schema.get("allOf", []), *(schema.get(word) for word in ("then", "else"))]:
        yield from _parts(part)
