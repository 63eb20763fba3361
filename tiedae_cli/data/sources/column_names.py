"""What the names of columns and arrays mean: labels, row indexes and time stamps; one list of each."""

import re
import unicodedata

LABEL_WORDS = frozenset(
    "y label labels target targets class classes outlier outliers anomaly anomalies anomalous abnormal fraud fraudulent".split()
)
BESIDE_LABELS = frozenset("is has true the name id".split())  # words beside one: is_fraud, y_true, class_name
INDEX_NAMES = frozenset(("", "id", "index", "idx", "row", "rowid", "row_id", "__index_level_0__", "item"))
TIME_NAMES = frozenset(("time", "timestamp", "ts", "date", "datetime", "epoch"))
WORD = re.compile(r"[a-z]+|\d+")


def name_words(name: str) -> list[str]:
    """Return the words of a name: ``x_train``, ``xTrain`` and ``train/x`` have the same two."""
    return WORD.findall(re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())


def is_label_column(name: str) -> bool:
    """Return whether a column is named like a label: ``class``, ``Label_1``, ``is_anomaly``; ``y_1`` is a coordinate."""
    words = name_words(name)
    if "y" in words:
        return words == ["y"] or set(words) == {"y", "true"}
    rest = {word for word in words if not word.isdecimal()} - BESIDE_LABELS
    return bool(rest) and rest <= LABEL_WORDS


def is_index_name(name: str) -> bool:
    """Return whether a column is named like an index, or is unnamed."""
    plain = name.strip().lower()
    return plain in INDEX_NAMES or plain.startswith("unnamed:")


def is_time_name(name: str) -> bool:
    """Return whether a column is named like a time stamp."""
    return name.strip().lower() in TIME_NAMES


def composed(text: str) -> str:
    """Return a text in Unicode NFC: a name from a Mac equals the same one from a keyboard."""
    return unicodedata.normalize("NFC", text)
