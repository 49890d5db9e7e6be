"""Configuration of Sphinx for the site; `build.py` writes the pages that it reads."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from sitegen.docstrings import tidy  # noqa: E402

project = "labutils"
author = "The labutils developers"
copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "code"
nb_code_prompt_hide = "code"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
myst_all_links_external = False
default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_use_rtype = False
napoleon_use_ivar = True
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type", "autodoc.mocked_object"]
pygments_style = "a11y-high-contrast-light"

SORTING = HERE.parents[1] / "labutils" / "core" / "long_tables.js"  # that of notebooks, for short tables too

html_theme = "pydata_sphinx_theme"
html_title = "labutils"
html_context = {"default_mode": "auto"}
html_static_path = [str(HERE / "static"), str(SORTING)]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"}), (SORTING.name, {"defer": "defer"})]
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # it would fetch pages, which a browser refuses for files
html_permalinks_icon = "#"
html_sidebars = {"index": [], "claims": [], "which_method": [], "gallery": []}
html_theme_options = {
    "logo": {"text": "labutils"},
    "navbar_align": "left",
    "collapse_navigation": True,  # the theme's toggles have no name for a screen reader
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 7,
    "show_prev_next": False,
    "navigation_with_keys": False,
    "back_to_top_button": False,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": [], "claims": [], "which_method": [], "gallery": []},
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def setup(app):
    """Let the package's docstrings be read as they are written."""

    def process(app, what, name, value, options, lines):
        lines[:] = tidy(lines)

    app.connect("autodoc-process-docstring", process, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
