"""Write llms.txt next to the built pages: what each page answers, for programs that read.

It follows https://llmstxt.org: a title, a summary, and the links in groups. All of it comes from
the pages and from their tables of contents.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

LONGEST_SUMMARY = 300  # characters


def setup(app: Sphinx) -> dict[str, bool]:
    """Register this extension."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write(app: Sphinx, error: Exception | None) -> None:
    """Write the file, if the pages were built."""
    if error is None and app.builder.format == "html":
        text = "\n".join(lines(app.env)) + "\n"
        (Path(app.outdir) / "llms.txt").write_text(text, encoding="utf-8")


def lines(env: BuildEnvironment) -> Iterator[str]:
    """Yield the lines of the file: a group for each part, and a link for each page."""
    root = env.config.root_doc
    yield f"# {title(env, root)}"
    yield f"\n> {summary(env.get_doctree(root))}"
    for part in env.toctree_includes[root]:
        yield f"\n## {title(env, part)}\n"
        for page in pages(env, [part]):
            text = summary(env.get_doctree(page))
            yield f"- [{title(env, page)}]({page}.html)" + (f": {text}" if text else "")


def pages(env: BuildEnvironment, names: Iterable[str]) -> Iterator[str]:
    """Yield these pages and those below them, in the order of the tables of contents."""
    for name in names:
        yield name
        yield from pages(env, env.toctree_includes.get(name, ()))


def title(env: BuildEnvironment, page: str) -> str:
    """Return the title of a page."""
    return env.titles[page].astext()


def summary(page: nodes.document) -> str:
    """Return the first paragraph of a page, cut after a whole sentence; "" if there is none."""
    for section in page.findall(nodes.section):
        for child in section.children:
            if isinstance(child, nodes.paragraph):
                return shorten(" ".join(child.astext().split()))
    return ""


def shorten(text: str) -> str:
    """Return as many sentences as fit, and at least one."""
    if text.endswith(":"):  # before a block of code
        text = text[:-1] + "."
    if len(text) <= LONGEST_SUMMARY:
        return text
    end = text.rfind(". ", 0, LONGEST_SUMMARY)
    if end < 0:
        end = text.find(". ")
    return text if end < 0 else text[: end + 1]
