"""The README as a package index shows it: its links are absolute.

In the repository, the links are relative and lead to the files of the same commit. A package index
has no such files. When the package is built, the links are therefore put behind the address of the
repository, which is `Source` in the `[project.urls]` of pyproject.toml.
"""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

# The target of a link or of a picture, unless it is absolute or a place on the same page.
_LINK = re.compile(r"(?P<before>(?P<picture>!?)\[[^]]*\]\()(?![a-z]+:|#)(?P<target>[^)\s]+)\)")
_BRANCH = "main"


class CustomMetadataHook(MetadataHookInterface):
    """Sets the readme of the package."""

    def update(self, metadata: dict[str, object]) -> None:
        """Set the readme.

        Args:
            metadata: The metadata of the project, with its URLs.
        """
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        urls = metadata["urls"]
        assert isinstance(urls, dict)  # noqa: S101 - hatchling has checked it
        readme = with_absolute_links(text, urls["Source"])
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}


def with_absolute_links(text: str, source: str) -> str:
    """Return a page of Markdown whose relative links lead into a repository.

    Args:
        text: The page, which is at the root of the repository.
        source: The address of the repository.
    """

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link["picture"] else "blob"
        return f"{link['before']}{source}/{kind}/{_BRANCH}/{link['target']})"

    return _LINK.sub(absolute, text)
