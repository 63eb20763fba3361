"""The layers of the package: imports run downwards and not sideways, slow imports are late, every module has a docstring."""

import ast
import functools
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LIGHT = {*sys.stdlib_module_names, "typer", "tiedae_cli"}
PACKAGE = Path(__file__).parent.parent.parent / "tiedae_cli"
FLOORS = (
    {"config", "system", "errors"},
    {"data"},
    {"model"},
    {"runs"},
    {"training", "tuning", "scoring", "report", "output"},
    {"tasks", "exported"},
    {"cli"},
    {"api", "__main__"},
)
LAZY = {"torchvision", "matplotlib", "PIL"}
NO_TORCH = (
    "errors",
    "config",
    "config.yaml_reader",
    "config.samples",
    "runs.run_list",
    "cli.completion",
    "system.storage",
    "system.interruption",
    "cli.app",
    "__main__",
)


def name_of(path: Path) -> str:
    """Return a module's name inside the package: ``data.digits``, ``data`` for the folder itself, "" for the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): ast.parse(path.read_text(), str(path)) for path in sorted(PACKAGE.rglob("*.py"))}


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def nodes(tree: ast.AST, into_functions: bool) -> Iterator[ast.AST]:
    """Yield the nodes that run: all of them, or only those that run on import."""
    for node in ast.iter_child_nodes(tree):
        if is_for_type_checkers(node):
            continue
        if not into_functions and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        yield node
        yield from nodes(node, into_functions)


@functools.cache
def imports(module: str, into_functions: bool) -> set[str]:
    """Return the full names that a module imports."""
    found = set()
    for node in nodes(MODULES[module], into_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@functools.cache
def own_imports(module: str, into_functions: bool = True) -> set[str]:
    """Return the modules of this package that a module imports."""
    found = set()
    for name in imports(module, into_functions):
        if name.startswith("tiedae_cli."):
            inside = name.removeprefix("tiedae_cli.")
            while inside and inside not in MODULES:
                inside = inside.rpartition(".")[0]
            found.add(inside)
    return found - {"", module}


def room(module: str) -> str:
    return module.partition(".")[0]


def floor(module: str) -> int:
    (found,) = (number for number, rooms in enumerate(FLOORS) if room(module) in rooms)
    return found


INSIDE = tuple(module for module in MODULES if module)


def test_every_room_is_on_one_floor() -> None:
    for module in INSIDE:
        assert sum(room(module) in rooms for rooms in FLOORS) == 1, f"put {room(module)} on its floor in FLOORS above"


def test_every_room_of_the_floors_exists() -> None:
    assert set().union(*FLOORS) == {room(module) for module in MODULES if module}


def test_imports_run_downwards() -> None:
    upwards = {(module, other) for module in INSIDE for other in own_imports(module) if floor(other) > floor(module)}
    assert not upwards, "the first module of each pair imports the second from above"


def test_packages_of_one_layer_do_not_import_each_other() -> None:
    """Neither ``errors`` nor ``__main__`` is a package: all may raise the errors, and the entrance calls the command line."""
    pairs = {(module, other) for module in INSIDE for other in own_imports(module) if "errors" != other}
    beside = {(one, other) for one, other in pairs if room(one) != room(other) and floor(one) == floor(other)}
    assert not {(one, other) for one, other in beside if one != "__main__"}


def test_one_name_one_file() -> None:
    """An editor's "go to file" on a module's name shows one; only a command and what it does share theirs."""
    files: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if path.name != "__init__.py":
            files.setdefault(path.stem, []).append(name_of(path))
    for name, modules in files.items():
        assert len(modules) == 1 or sorted(modules) == [f"cli.commands.{name}", f"tasks.{name}"], modules


def test_each_file_in_tasks_is_one_command() -> None:
    commands = {name.rpartition(".")[2] for name in MODULES if name.startswith("cli.commands.")}
    assert {name.rpartition(".")[2] for name in MODULES if name.startswith("tasks.")} <= commands


def test_no_room_imports_itself_in_a_circle() -> None:
    """Also within a floor, and also inside functions."""
    below: dict[str, set[str]] = {}
    for module in filter(None, MODULES):
        below.setdefault(room(module), set()).update(room(other) for other in own_imports(module))
    done: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a circle: {' -> '.join((*above, name))}"
        for other in below[name] - {name}:
            visit(other, (*above, name))
        done.append(name)

    for name in below:
        visit(name, ())
    assert set(done) == set(below)


def test_the_graph_of_the_page_shows_the_imports_as_they_are() -> None:
    """Without layer 0, which every package imports."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    shown = set()
    for left, right in re.findall(r"^  ([\w &]+) --> ([\w &]+)$", page, re.MULTILINE):
        shown |= set(itertools.product(left.split(" & "), right.split(" & ")))
    pairs = {(room(module), room(other)) for module in filter(None, MODULES) for other in own_imports(module)}
    lowest = {"__main__", *FLOORS[0]}
    assert shown == {(left, right) for left, right in pairs if left != right and not lowest & {left, right}}


def test_what_is_slow_to_import_is_imported_late() -> None:
    pairs = {(module, name) for module in INSIDE for name in imports(module, into_functions=False)}
    assert not {(module, name) for module, name in pairs if name.partition(".")[0] in LAZY}


def reached_on_import(module: str, seen: set[str]) -> Iterator[str]:
    """Yield the outside packages that importing a module brings in, through all it imports."""
    seen.add(module)
    yield from (name.partition(".")[0] for name in imports(module, into_functions=False))
    for other in own_imports(module, into_functions=False) - seen:
        yield from reached_on_import(other, seen)
    parent = module.rpartition(".")[0]
    if parent and parent not in seen:
        yield from reached_on_import(parent, seen)


def test_no_torch_for_what_must_answer_at_once() -> None:
    assert not [module for module in NO_TORCH if {"torch", "numpy"} & set(reached_on_import(module, set()))]


KEEPS_TORCH = {"system.devices", "system.random_streams"}


@pytest.mark.slow
def test_no_torch_below_the_model() -> None:
    """Not even inside a function. torchvision, which downloads data sets, is the one package that brings torch along."""
    for module in {module for module in INSIDE if room(module) in {"config", "data", "system"}} - KEEPS_TORCH:
        assert "torch" not in {name.partition(".")[0] for name in imports(module, into_functions=True)}, module
        assert not own_imports(module) & KEEPS_TORCH, module
        assert "torch" not in set(reached_on_import(module, set())), module


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", [module for module in MODULES if room(module) == "exported" or module == "cli.exported_table"]
)
def test_no_torch_for_exported_files(module: str) -> None:
    """Whoever deploys one has onnxruntime and no torch."""
    assert not {"torch", "torchvision"} & set(reached_on_import(module, set()))


def test_no_triton_before_a_step_on_cuda_needs_it() -> None:
    assert "triton" not in set(reached_on_import("training.step.training_step", set()))


def test_commands_import_nothing_slow() -> None:
    for module in MODULES:
        if module.startswith("cli.commands"):
            assert set(reached_on_import(module, set())) <= LIGHT, module


def test_every_module_says_what_it_is_in_a_line() -> None:
    for module, tree in MODULES.items():
        docstring = ast.get_docstring(tree)
        assert docstring, f"{module} has no docstring"
        first = docstring.splitlines()[0]
        assert first.endswith(".") or ". " in first, f"{module}: its first sentence does not fit a line: {first}"


def test_public_classes_and_functions_have_docstrings() -> None:
    for module, tree in MODULES.items():
        for node in tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{module}.{node.name} has no docstring"


def test_functions_fit_a_screen() -> None:
    """About 40 lines of statements; a docstring and a command's options do not count."""
    for module, tree in MODULES.items():
        for node in (one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 45, f"{module}.{node.name} has {lines} lines"


FACES = [module for module in MODULES if any(other.startswith(f"{module}.") for other in MODULES if module)]


def test_a_face_is_a_docstring_and_names() -> None:
    for module in FACES:
        for node in MODULES[module].body:
            assert isinstance(node, (ast.Expr, ast.ImportFrom, ast.Assign)), f"{module} has machinery at line {node.lineno}"


def test_only_three_modules_lie_outside_a_package() -> None:
    """The version, the entrance and the error family."""
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}


def test_nothing_is_called_utils() -> None:
    words = {word for module in MODULES for part in module.split(".") for word in part.split("_")}
    assert not words & {"utils", "util", "helpers", "helper", "misc", "common"}


def test_only_the_entrance_prints_errors() -> None:
    """``sys.exit`` and exit codes belong to cli/app.py; the rest raises."""
    for module in MODULES:
        if module != "cli.app":
            calls = [node for node in ast.walk(MODULES[module]) if isinstance(node, ast.Attribute) and node.attr == "exit"]
            assert not calls, f"{module} exits by itself"
