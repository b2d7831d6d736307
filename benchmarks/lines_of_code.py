"""Counts the lines of code of each package and of the tests: `python -m benchmarks.lines_of_code`.

Of Python files the lines that hold a token other than a comment or a docstring; of templates, style
sheets, recipes and other data the lines that are not blank.
"""

import ast
import io
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path

NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
DATA = {".html", ".css", ".svg", ".js", ".jinja", ".json", ".yaml", ".csv", ".txt"}
NOT_PACKAGES = {"benchmarks", "tests"}


def docstring_lines(text: str) -> set[int]:
    """Returns the numbers of the lines that docstrings take."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def count(path: Path) -> int:
    """Returns the lines of code in a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return sum(bool(line.strip()) for line in text.splitlines())
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstring_lines(text))


def main(root: Path) -> None:
    """Prints a line for each folder and module at the top and the sum of the packages' code."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=root, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    lines: Counter[str] = Counter()
    for name in listed:
        path = root / name
        if path.suffix == ".py" or (path.suffix in DATA and "/" in name):
            lines[name.split("/")[0]] += count(path)
    packages = [
        name
        for name in lines
        if name == "pvt_packages.py"
        or ((root / name / "__init__.py").exists() and name not in NOT_PACKAGES)
    ]
    for name, number in sorted(lines.items()):
        print(f"{number:7,}  {name}")
    print(f"{sum(lines[name] for name in packages):7,}  packages together")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
