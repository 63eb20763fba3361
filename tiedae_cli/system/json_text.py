"""JSON that every parser accepts: NaN and infinity become null."""

import json
import math
from typing import Any


def json_text(values: dict[str, Any]) -> str:
    """Return an object as one line of JSON, with null for NaN and infinity at every depth."""
    return json.dumps(json_values(values), allow_nan=False)


def json_values(value: Any) -> Any:
    """Return a value with NaN and infinity replaced by None at every depth."""
    if isinstance(value, dict):
        return {key: json_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
