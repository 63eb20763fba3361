"""The calls of a step, and after many of them one TorchScript graph, which runs without Python between its operations.

Each matrix product evicts Python from the processor's caches, so that the calls between two products take 4 to 17% of a step. A
recording runs the calls and writes down each operation with its arguments. What turns this into a graph is private to torch: if it is
missing, or if the graph differs from the calls in one bit, the calls stay as they are.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tiedae_cli.model.products import Call

log = logging.getLogger(__name__)

FAILURES = AttributeError, KeyError, RuntimeError, TypeError, ValueError  # if torch's private interfaces changed
RECORDED_AFTER = 200  # calls: a recording takes 45 ms, about as long as it saves in 200 steps of the reference
TYPES = {torch.float32: 6, torch.float64: 7, torch.bfloat16: 15}  # torch's numbers of its types


class RecordedCalls:
    """Makes calls again and again, at first one by one, later as a graph with the same results.

    Args:
        calls: operations on tensors that stay the same; a second time, they give the same results.
        result: returns the tensor that the calls made last.
        records: whether a graph is tried.
    """

    def __init__(self, calls: Sequence[Call], result: Callable[[], Tensor], records: bool) -> None:
        self.calls, self.result = calls, result
        self.left = RECORDED_AFTER if records else -1  # until the recording
        self.recording: Recording | None = None
        self.graph: Callable[[], Tensor] | None = None

    def __call__(self) -> Tensor:
        """Make the calls; return their result."""
        if self.graph is not None:
            return self.graph()
        if self.recording is not None:
            self._compare(self.recording)
        elif self.left == 0:
            self._record()
        else:
            self._make()
        self.left -= 1
        return self.result()

    def _make(self) -> None:
        for call in self.calls:
            call()

    def _record(self) -> None:
        """Make the calls within a recording."""
        recording = Recording()
        try:
            with recording:
                self._make()
            recording.finish(self.result())
        except FAILURES as error:
            log.debug(f"a step is not recorded: {error}")
            self._make()
        else:
            self.recording = recording

    def _compare(self, recording: "Recording") -> None:
        """Make the calls after the graph, whose results must be the same; what it did not write is still from the last batch."""
        self.recording = None
        try:
            for _ in range(3):  # torch observes the first run and optimizes in the second
                result = recording.graph()
        except FAILURES as error:
            log.debug(f"the graph of a step fails: {error}")
            self._make()
            return
        found = [value.clone() for value in (result, *recording.inputs)]
        self._make()
        if all(map(torch.equal, found, (self.result(), *recording.inputs))):
            self.graph = recording.graph
        else:
            log.debug("the graph of a step differs from its operations, or they are not finite")


class Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within this block, operations run and are written down in the language in which torch prints graphs.

    Attributes:
        inputs: the tensors that the operations use and none of them made.
        graph: does what was written down; set by ``finish``.
    """

    graph: Callable[[], Tensor]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inputs: list[Tensor] = []
        self._lines: list[str] = []
        self._names: dict[int, str] = {}  # of tensors, by their id
        self._made: list[object] = []  # kept, so that no id is used twice
        self._constants: dict[tuple[str, str], str] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, which takes a second

    def __torch_dispatch__(
        self, operation: Any, types: object, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        """Run an operation and write it down."""
        named, schema = kwargs or {}, operation._schema
        result = operation(*args, **named)
        given = [*args, *(named.get(one.name, one.default_value) for one in schema.arguments[len(args) :])]
        names = [self._value(value, str(argument.type)) for value, argument in zip(given, schema.arguments, strict=True)]
        (returned,) = schema.returns  # an operation with several results is not recorded
        if not isinstance(result, Tensor):
            raise TypeError(f"{schema.name} returns no tensor: the next operations may depend on it")
        self._names[id(result)] = self._write(str(returned.type), f"{schema.name}({', '.join(names)})")
        self._made.append(result)
        return result

    def finish(self, result: Tensor) -> None:
        """Make the graph, which returns what becomes of ``result``, a tensor that an operation made."""
        head = ", ".join(f"%input{place} : Tensor" for place in range(len(self.inputs)))
        text = "\n".join([f"graph({head}):", *self._lines, f"  return ({self._names[id(result)]})", ""])
        self.graph = partial(torch._C._create_function_from_graph("step", torch._C.parse_ir(text)), *self.inputs)

    def _write(self, kind: str, expression: str) -> str:
        name = f"%made{len(self._lines)}"
        self._lines.append(f"  {name} : {kind} = {expression}")
        return name

    def _value(self, value: object, kind: str) -> str:
        """Return the name of an argument, whose type is in words of the schema."""
        if isinstance(value, Tensor):
            if id(value) not in self._names:
                self._names[id(value)] = f"%input{len(self.inputs)}"
                self.inputs.append(value)
            return self._names[id(value)]
        if isinstance(value, (list, tuple)):
            part = next((one for word, one in (("number", "Scalar?"), ("float", "float")) if word in kind), "int")
            return self._write(f"{part}[]", f"prim::ListConstruct({', '.join(self._value(one, part) for one in value)})")
        return self._constant(value, kind)

    def _constant(self, value: object, kind: str) -> str:
        if value is None:
            key = "NoneType", ""
        elif isinstance(value, str):
            key = "str", f'[value="{value}"]'
        elif isinstance(value, bool):
            key = "bool", f"[value={int(value)}]"
        elif isinstance(value, float) or (isinstance(value, int) and "float" in kind):
            key = "float", f"[value={value:.17e}]"
        elif isinstance(value, (int, torch.dtype)):
            key = "int", f"[value={TYPES[value] if isinstance(value, torch.dtype) else value}]"
        else:
            raise TypeError(f"{value!r} cannot be written down")
        if key not in self._constants:
            self._constants[key] = self._write(key[0], f"prim::Constant{key[1]}()")
        return self._constants[key]
