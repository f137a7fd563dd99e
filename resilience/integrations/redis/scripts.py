"""The Lua scripts that the store runs, as they are sent to it."""

import importlib.resources


def read_script(*names: str) -> str:
    """Return the text of a script, made of these files in their order."""
    folder = importlib.resources.files("resilience.integrations.redis")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
