"""How Sphinx makes the site of the documents: `make docs`."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

project = "pvt-twins"
author = "the pvt-twins authors"
copyright = author
version = release = version_of("pvt-twins")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "docs.building.blocks",
    "docs.building.generated",
]
exclude_patterns = ["building", "static"]
nitpicky = True
nitpick_ignore_regex = [
    # What the code refers to inside itself, and the types of other libraries, have no page here.
    (r"py:.*", r".*"),
]
suppress_warnings = ["config.cache"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "both"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

smartquotes = False  # -- is an option
html_theme = "furo"
html_title = "pvt-twins"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"sidebar_hide_name": False}
copybutton_prompt_text = r"\w*\$ +"
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"
pygments_style = "default"
pygments_dark_style = "github-dark"
