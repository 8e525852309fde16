import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for member in ("crds", "operator", "panel", "robot-agent", "cli")
    for path in (ROOT / member / "src").rglob("*.py")
)
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40


def test_the_operator_folder_does_not_shadow_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_over_the_limit_says_why_at_its_head(path: Path) -> None:
    lines = path.read_text().splitlines()
    excused = any("length:" in line for line in lines[:40])
    assert len(lines) <= MAX_FILE_LINES or excused, f"{len(lines)} lines; split it, or say '# length: why' at its head"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_function_over_the_limit_says_why_at_its_head(path: Path) -> None:
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        head = "\n".join(lines[node.lineno - 1 : node.body[0].lineno + 1])
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        assert length <= MAX_FUNCTION_LINES or "length:" in head, (
            f"{node.name} has {length} lines; split it, or say '# length: why' at its head"
        )
