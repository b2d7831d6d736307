"""Blocks of code on a page: commands with what they print, pictures, and what no test runs."""

import re
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from pygments.lexers.shell import BashLexer, BashSessionLexer
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

from docs.building.arrows import draw_arrows
from tests.support.documents import PROMPT

SESSION, SHELL = "pvt-session", "pvt-shell"


class Session(BashSessionLexer):
    """Commands behind a prompt, and what they print."""

    name, aliases = SESSION, [SESSION]
    _innerLexerCls = BashLexer
    _ps1rgx = re.compile(r"^(\w*\$ +)(.*\n?)")
    _ps2 = "> "


class NotRun(SphinxDirective):
    """A block that the tests leave out: ```` ```{not-run} why ````, said on the page."""

    has_content = True
    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {"language": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Returns the block, with the reason above it."""
        block = nodes.literal_block("\n".join(self.content), "\n".join(self.content))
        block["language"] = self.options.get("language", "default")
        said = nodes.paragraph(
            "", "", nodes.emphasis("", f"Not run by the tests: {self.arguments[0]}")
        )
        said["classes"].append("not-run")
        return [said, block]


class Languages(SphinxTransform):
    """Gives every block without a language the one that it is in, and draws those of Mermaid."""

    default_priority = 400

    def apply(self, **_: Any) -> None:
        """Sees whether there are prompts."""
        for block in list(self.document.findall(nodes.literal_block)):
            if block.get("language") == "mermaid":
                picture = draw_arrows(block.astext())
                block.replace_self(nodes.raw("", picture, format="html"))
            elif block.get("language", "default") in ("default", "none", ""):
                lines = block.astext().splitlines()
                block["language"] = SESSION if any(map(PROMPT.match, lines)) else "bash"


def setup(app: Sphinx) -> dict[str, Any]:
    """Tells Sphinx of all of it."""
    app.add_lexer(SESSION, Session)
    app.add_directive("not-run", NotRun)
    app.add_transform(Languages)
    return {"parallel_read_safe": True}
