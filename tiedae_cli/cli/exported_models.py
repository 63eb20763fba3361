"""Whether MODEL is an exported file, which answers without torch, and which options it cannot answer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiedae_cli.exported.exported_file import ExportedModel


def exported_model(word: str | None, device: str = "auto") -> "ExportedModel | None":
    """Return the exported file that MODEL names; None if it names something else.

    Args:
        word: MODEL.
        device: ``--device``.

    Raises:
        InputError: the device is not the CPU, or the file holds another part than ``score``.
        CheckpointError: the file is damaged.
    """
    from tiedae_cli.runs.export_document import is_exported

    if not is_exported(word):
        return None
    from tiedae_cli.errors import InputError
    from tiedae_cli.exported.exported_file import ExportedModel

    assert word is not None
    if device not in ("auto", "cpu"):
        raise InputError(f"--device {device}: {word} is an exported file, which onnxruntime computes on the CPU")
    return ExportedModel(word)


def refuse_options(model: "ExportedModel", options: Mapping[str, object]) -> None:
    """Raise ``InputError`` if an option was given that only a checkpoint can answer.

    Args:
        model: the exported file.
        options: their values by name; None or False was not given.
    """
    from tiedae_cli.errors import InputError

    given = [name for name, value in options.items() if value is not None and value is not False]
    if given:
        raise InputError(f"{given[0]}: needs the checkpoint; {model.path} is an exported file, which cannot answer it")
