"""Pages that the code writes itself: every command, by click, and every public name."""

import sys
from collections import _tuplegetter  # type: ignore[attr-defined]  # what fields of a tuple are
from collections.abc import Iterator
from importlib import import_module
from inspect import cleandoc, isclass, ismodule, isroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

PROGRAMS = ("convert", "parity", "pvt_onnx", "pvt_torch", "pvt_ms", "pvt_train")
LIBRARIES = ("convert", "pvt_onnx", "pvt_torch", "pvt_ms", "pvt_spec")


class Markdown(click.HelpFormatter):
    """Writes what ``--help`` says as Markdown: a section of options is a list of definitions."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Writes how a command is called."""
        self.write(f"```{{code-block}} text\n{prog} {args}\n```\n\n")

    def write_heading(self, heading: str) -> None:
        """Writes what a section is of."""
        self.write(f"**{heading}**\n\n")

    def write_text(self, text: str) -> None:
        """Writes paragraphs."""
        self.write(f"{_escaped(cleandoc(text))}\n\n")

    def write_dl(self, rows: Any, *_: Any, **__: Any) -> None:
        """Writes options, or commands, and what each is for."""
        for name, about in rows:
            self.write(
                f"`{' '.join(name.split())}`\n: {_escaped(' '.join(about.split())) or '.'}\n\n"
            )


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]<>#|$~" else letter for letter in text)


def command_page(program: str) -> str:
    """Returns the page of a program: each of its commands as its ``--help`` shows it."""
    name = program.replace("_", "-")
    main = import_module(f"{program}.command_line").main
    return f"# {name}\n\n" + "\n".join(_commands(main, None, name, 2))


def _commands(
    command: click.Command, parent: click.Context | None, name: str, level: int
) -> Iterator[str]:
    context = click.Context(command, parent, name)
    formatter = Markdown(width=1000)  # nothing is cut off
    command.format_help(context, formatter)
    if parent:
        yield f"{'#' * level} {context.command_path}\n"
    yield formatter.getvalue()
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            inner = command.get_command(context, each)
            if inner is not None and not inner.hidden:
                yield from _commands(inner, context, each, level if parent is None else level + 1)


def api_page(package: str) -> str:
    """Returns the page of a package's public names, whose docstrings Sphinx reads."""
    module = import_module(package)
    blocks = [f".. py:module:: {package}\n\n{cleandoc(module.__doc__ or '')}"]
    for name in public_names(module):
        kind = _kind(getattr(module, name))
        option = {"class": "\n   :members:", "data": "\n   :no-value:"}.get(kind, "")
        blocks.append(f".. auto{kind}:: {package}.{name}{option}")
    return f"# import {package}\n\n" + "".join(
        f"```{{eval-rst}}\n{block}\n```\n\n" for block in blocks
    )


def _kind(value: Any) -> str:
    if isclass(value):
        return "exception" if issubclass(value, BaseException) else "class"
    return "function" if isroutine(value) else "data"


def public_names(module: ModuleType) -> list[str]:
    """Returns what a package exports: what it says, or else all but its modules."""
    exported = getattr(module, "__all__", None)
    return sorted(
        exported or (n for n, v in vars(module).items() if n[0] != "_" and not ismodule(v))
    )


def write_pages(app: Sphinx) -> None:
    """Writes them into the sources, where Git does not look, if they are others than before."""
    folder = Path(app.srcdir, "generated")
    pages = {f"commands/{each.replace('_', '-')}": command_page(each) for each in PROGRAMS}
    pages |= {f"api/{each}": api_page(each) for each in LIBRARIES}
    for name, text in pages.items():
        page = (folder / name).with_suffix(".md")
        page.parent.mkdir(parents=True, exist_ok=True)
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


def describe_data(_: Sphinx, what: str, name: str, value: Any, __: Any, lines: list[str]) -> None:
    """Finds the words below a constant where it is defined, or else shows its value.

    Sphinx would show those of its type.
    """
    package, _dot, short = name.rpartition(".")
    if what != "data" or package not in LIBRARIES:
        return
    lines[:] = [f"``{value!r}``"]
    for module in [module for module in sys.modules if module.startswith(f"{package}.")]:
        if found := ModuleAnalyzer.for_module(module).find_attr_docs().get(("", short)):
            lines[:] = found


def setup(app: Sphinx) -> dict[str, Any]:
    """Tells Sphinx when."""
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", describe_data)
    app.connect("autodoc-skip-member", lambda *event: isinstance(event[3], _tuplegetter) or None)
    return {"parallel_read_safe": True}
