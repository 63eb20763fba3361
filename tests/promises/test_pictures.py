"""Pictures of the docs that are older than the code that draws them are noticed, with the command that makes them anew."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
LATE = {"docs/photographs.png"}  # older than its captions; its recipe takes two quiet cores a quarter of an hour
CODE = '''"""What it draws."""

SIZE = 3  # inches


def draw(names: list[str]) -> str:
    """Draw."""
    return f"{SIZE}é" + "# no comment"  # é


def other() -> None:
    pass
'''


@pytest.fixture
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_picture_is_older_than_the_code_that_draws_it(pictures: ModuleType) -> None:
    found = {path.relative_to(ROOT).as_posix() for kind in ("png", "svg") for path in (ROOT / "docs").rglob(f"*.{kind}")}
    assert set(pictures.PICTURES) == found
    old = {name: pictures.state(name) for name in sorted(found) if pictures.state(name)}
    assert set(old) == LATE, "\n".join(old.values())


@pytest.mark.parametrize(
    ("old", "new", "function", "changes"),
    [
        ("# inches", "# points", "", False),
        ('"""Draw."""', '"""Draw it."""', "", False),
        ("names: list[str]", "\n    names: list[str],\n", "", False),
        ("# é", "# a longer é", "", False),
        ("SIZE = 3", "SIZE = 4", "", True),
        ("# no comment", "# none", "", True),
        ("# no comment", "# none", "draw", True),
        ("SIZE = 3", "SIZE = 4", "draw", False),
        ("pass", "return", "draw", False),
    ],
)
def test_only_code_counts(pictures: ModuleType, old: str, new: str, function: str, changes: bool) -> None:
    assert old in CODE
    before, after = (pictures.bare(Path("x.py"), text, function) for text in (CODE, CODE.replace(old, new)))
    assert (before != after) == changes


def test_of_a_page_the_executed_blocks_count(pictures: ModuleType) -> None:
    page = "Words.\n\n```bash\ntiedae train\n```\n\n```text\n0.5\n```\n"
    bare = [pictures.bare(Path("x.md"), text) for text in (page, page.replace("0.5", "0.4"), page.replace("train", "eval"))]
    assert bare[0] == bare[1] != bare[2]


def test_an_old_picture_is_named_with_its_command(pictures: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = pictures.records()
    name = "docs/loss.png"
    changed = recorded | {name: recorded[name] | {"code": "0"}}
    monkeypatch.setattr(pictures, "records", lambda: changed)
    said = pictures.state(name)
    assert said.startswith(f"{name} is older than the code that draws it (docs/gallery.py:draw_loss, ")
    assert said.endswith("; make it anew: python docs/gallery.py --only loss")
