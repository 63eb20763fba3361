"""Messages in the words of Python: keyword arguments in place of options of the command line."""

import re

SET = re.compile(r"--set (?:'(?:\w+\.)?(\w+)=([^']*)'|(?:\w+\.)?(\w+)=(\S+?)(?=[,;.)]?(?:\s|$)))")
TRAIN = re.compile(r"tiedae train (?:'[^']*'|\S+)((?: [\w.]+=\S+)+)")
PLAIN = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?|LOWEST|HIGHEST|true|false", re.IGNORECASE)


def python_words(text: str) -> str:
    """Return a message with ``--set data.missing=drop`` as ``missing='drop'`` and commands as calls."""
    text = SET.sub(lambda found: _argument(found[1] or found[3], found[2] or found[4] or ""), text)
    return TRAIN.sub(_call, text)


def _argument(key: str, value: str) -> str:
    if value[:1] == "[" and value[-1:] == "]":
        return f"{key}=[{', '.join(map(_literal, value[1:-1].split(', ')))}]"
    return f"{key}={_literal(value)}"


def _literal(value: str) -> str:
    plain = value.capitalize() if value.lower() in ("true", "false") else value
    return plain if PLAIN.fullmatch(value) else repr(value)


def _call(found: "re.Match[str]") -> str:
    pairs = (word.partition("=") for word in found[1].split())
    return f"tiedae.train(..., {', '.join(_argument(key.rpartition('.')[2], value) for key, _, value in pairs)})"
