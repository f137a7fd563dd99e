"""What an error is made of, for a test that fails: types, attributes and the errors behind it."""

# Some are properties or methods, which an error's own dictionary does not show.
ATTRIBUTES = ("args", "status", "status_code", "code", "http_status", "errno")


def describe(error, indent="", seen=()):
    """Return lines with the error's full types, what it says, and what is behind it.

    Args:
        error: The error.
        indent: The beginning of each line.
        seen: The errors that it is behind of: errors may form a circle.
    """
    if any(error is one for one in seen):
        return f"{indent}{type(error).__name__}, as above"
    seen = (*seen, error)
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__[:-2]]
    lines = [f"{indent}{' < '.join(names)}"]
    for name in dict.fromkeys((*ATTRIBUTES, *getattr(error, "__dict__", ()))):
        value = _value(error, name)
        if value is not None:
            lines.append(f"{indent}  .{name} = {value}")
    for link in ("__cause__", "__context__"):
        behind = getattr(error, link)
        # The context is shown too where `from None` hides it, and not a second time as the cause.
        if behind is not None and not (link == "__context__" and behind is error.__cause__):
            hidden = " (hidden)" if link == "__context__" and error.__suppress_context__ else ""
            lines.append(f"{indent}  {link}{hidden}:")
            lines.append(describe(behind, indent + "    ", seen))
    for nested in getattr(error, "exceptions", ()):
        lines.append(f"{indent}  of the group:")
        lines.append(describe(nested, indent + "    ", seen))
    return "\n".join(lines)


def _value(thing, name):
    try:
        value = getattr(thing, name, None)
        value = value() if callable(value) and name in ("code", "status") else value
        return None if value is None else repr(value)[:200]
    except Exception as error:
        return f"raises {type(error).__name__}"
