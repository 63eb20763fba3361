"""onnxruntime, which an extra installs, as this program uses it: quiet, on the CPU, one thread per usable processor."""

from typing import Any

from tiedae_cli.system.optional_packages import optional_package
from tiedae_cli.system.processors import has_quota, usable_processors


def onnx_runtime(purpose: str) -> Any:
    """Import onnxruntime.

    Args:
        purpose: what needs the package, for the message.

    Raises:
        InputError: it is not installed.
    """
    runtime = optional_package("onnxruntime", "onnx", purpose)
    runtime.set_default_logger_severity(3)
    return runtime


def onnx_session(runtime: Any, content: bytes) -> Any:
    """Return a session of an ONNX file.

    Raises:
        Exception: of onnxruntime, which has no public class for its errors: the file is damaged.
    """
    options = runtime.SessionOptions()
    if has_quota():  # else onnxruntime chooses the number, and binds each thread to a processor
        options.intra_op_num_threads = usable_processors()
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
