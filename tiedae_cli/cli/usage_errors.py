"""A wrong option or argument of any command, as one line: what is wrong, and what to type instead."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from tiedae_cli.system.portability import quoted

WORDS = "tiedae.words"  # in the context's meta: the command line as it was typed
SYNONYMS = {  # other tools' names of options; each command uses those that it has
    **dict.fromkeys(("--count", "--num", "--number", "--limit", "--images", "--samples", "--k"), "--n"),
    **dict.fromkeys(("--out", "--file", "--save", "--to", "--dest", "--destination"), "--output"),
    **dict.fromkeys(("--weights", "--filters", "--kernels"), "--features"),
    **dict.fromkeys(("--silent", "--no-progress"), "--quiet"),
    **dict.fromkeys(("--contamination", "--fpr", "--false-alarm", "--alpha"), "--false-alarms"),
    **dict.fromkeys(("--reasons", "--why"), "--explain"),
    **dict.fromkeys(("--random", "--random-state"), "--seed"),
    "--worst": "--top",
    "-e": "--epochs",
    "-b": "--batch-size",
}
VALUES = {"--gpu": "--device cuda", "--cuda": "--device cuda", "--cpu": "--device cpu", "--csv": "--format csv"}
INSTEAD = {
    ("report", "--open"): "tiedae report prints the path of the page: open that in a browser",
    ("runs", "--sort"): "runs are listed newest first; sort the output of tiedae runs --json for another order",
}
NOT_A_NUMBER = {  # what Typer says, before and since it validates with pydantic
    r"is not a valid int(eger)?( range)?\.?$|^Input should be a valid integer": "a whole number",
    r"is not a valid float( range)?\.?$|^Input should be a valid number": "a number",
}
REQUIRED = {"--output": "model.onnx"}  # example values for options that a command cannot do without
MADE_OF_WORDS = {"--features": "weights.png"}  # example values for options that need one although their synonym does not


def usage_message(error: Any, meta: Mapping[str, Any]) -> str:
    """Return the message for a Typer usage error, without the word "error".

    Args:
        error: Typer's.
        meta: of the context, with the words that ``remember_words`` kept.
    """
    context, words = error.ctx, meta.get(WORDS, ())
    command = words[0] if words else ""
    if context is not None and getattr(error, "option_name", None) and type(error).__name__ == "NoSuchOption":
        return _unknown_option(str(error.option_name), command, words, context)
    help_line = " ".join(filter(None, ("tiedae", command, "--help")))
    option = getattr(error, "param", None)
    if option is not None and type(error).__name__ == "BadParameter":
        name = max(option.opts, key=len) if option.param_type_name == "option" else option.human_readable_name
        return f"{name}: {_in_plain_words(error.message)} ({help_line})"
    if type(error).__name__ == "MissingParameter" and option is not None and (name := max(option.opts, key=len)) in REQUIRED:
        return f"{name}: missing; for example: {' '.join(('tiedae', *map(quoted, words), name, REQUIRED[name]))}"
    return f"{error.format_message().rstrip('.')} ({help_line})"


def _in_plain_words(message: str) -> str:
    """Return a validator's message without the jargon of Typer's versions."""
    for pattern, words in NOT_A_NUMBER.items():
        if re.search(pattern, message):
            return f"expected {words}"
    return message.removeprefix("Value error, ").replace("Input should be", "must be").rstrip(".")


def _unknown_option(option: str, command: str, words: Sequence[str], context: Any) -> str:
    """Return what is wrong and the closest line to type, or which options exist."""
    from tiedae_cli.config import keys

    own = _own_options(context)
    hint = INSTEAD.get((command, option))
    if hint is not None:
        return f"{option}: no such option; {hint}"
    meant = _meant(option, own, command, words)
    if meant is not None and words:
        return f"{option}: no such option; type: tiedae {' '.join(_replaced(words, option, meant))}"
    if command == "train":
        return f"{option}: no such option (all options: tiedae train --help --all)"
    what = " (a key of the config, for tiedae train)" if keys.find_key(option[2:]) else ""
    known = ", ".join(sorted(name for name in own if name.startswith("--") and name not in ("--help", "--debug")))
    tool = f"tiedae {command}".strip()
    return f"{option}: no such option{what}; {tool} has {known} ({tool} --help)"


def _own_options(context: Any) -> list[str]:
    return [
        name for param in context.command.get_params(context) for name in (*param.opts, *param.secondary_opts) if name[0] == "-"
    ]


def _meant(option: str, own: Sequence[str], command: str, words: Sequence[str]) -> str | None:
    """Return the option that was probably meant; None if no name is close."""
    if option in VALUES and VALUES[option].split()[0] in own:
        return VALUES[option]
    from tiedae_cli.config import keys

    if command == "train":  # keys of the config are options; with one dash they are not
        written = next((word for word in words if word.startswith(option) and not word.startswith("--")), option)
        if len(written) > 2 and keys.find_key(written[1:]) is not None:
            return f"-{written}"
        return SYNONYMS.get(option)
    synonym = SYNONYMS.get(option)
    if synonym in own:
        return synonym
    longer = [name for name in own if name.startswith(option) and len(option) >= 4]
    if len(longer) == 1:
        return longer[0]
    return next(iter(difflib.get_close_matches(option.removeprefix("--"), [name[2:] for name in own], n=1, cutoff=0.8)), None)


def _replaced(words: Sequence[str], option: str, meant: str) -> list[str]:
    """Return the command line with the right option in place of the wrong one."""
    meant = meant if meant.startswith("-") else f"--{meant}"
    found = []
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name != option and name != meant[1:]:
            found.append(quoted(word))
            continue
        following = words[index + 1 : index + 2]
        example = MADE_OF_WORDS.get(meant)
        missing = example is not None and not equals and (not following or following[0].startswith("-"))
        found.append(f"{meant}={quoted(value)}" if equals else f"{meant} {example}" if missing else meant)
    return found


def remember_words(context: typer.Context, words: Sequence[str]) -> None:
    """Keep the command line, for messages about its options."""
    context.meta[WORDS] = tuple(words)
