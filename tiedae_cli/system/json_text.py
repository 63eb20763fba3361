"""Values as JSON, in which NaN and infinity, which JSON lacks, are null."""

import json
import math
from typing import Any


def json_text(values: dict[str, Any]) -> str:
    """Return one line of JSON; what JSON cannot say (NaN, infinity) becomes null, at every depth."""
    return json.dumps(sayable(values), allow_nan=False)


def sayable(value: Any) -> Any:
    """Return a value with null in place of what JSON cannot say, at every depth."""
    if isinstance(value, dict):
        return {key: sayable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [sayable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
