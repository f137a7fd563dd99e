"""Network namespaces: the `ip` command of iproute2, and whether it can make them here."""

import itertools
import os
import subprocess

_numbers = itertools.count()


class NoNamespacesError(Exception):
    """This machine or this user makes none."""


def ip(*command):
    done = subprocess.run(["ip", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoNamespacesError(f"ip {' '.join(command)}: {done.stderr.strip()}")


def available():
    """Tell whether namespaces can be made here."""
    name = name_of("try")
    try:
        ip("netns", "add", name)
        ip("netns", "del", name)
    except (NoNamespacesError, OSError):
        return False
    return True


def name_of(role):
    return f"rb{os.getpid()}-{next(_numbers)}-{role}"
