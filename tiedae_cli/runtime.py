"""Where and how numbers are computed: the device, the precision, and which of several processes this one is."""

import torch

from tiedae_cli.errors import DeviceError


def available_devices() -> list[str]:
    """Return the names that ``--device`` takes on this machine."""
    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def resolve_device(name: str) -> torch.device:
    """Return the device that ``--device`` asks for; ``auto`` is the first GPU, else the CPU.

    Raises:
        DeviceError: there is no such device; the message names those that are.

    """
    available = available_devices()
    if name == "auto":
        return torch.device(available[1] if len(available) > 1 else "cpu")
    if name == "cuda" and "cuda:0" in available:
        return torch.device("cuda:0")
    if name in available:
        return torch.device(name)
    raise DeviceError(f"--device {name}: not on this machine; available: auto, {', '.join(available)}")
