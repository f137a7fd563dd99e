"""What is known about the client libraries, as data: one file for each kind of client."""

from resilience.classify.libraries.clouds import CLOUDS
from resilience.classify.libraries.databases import DATABASES
from resilience.classify.libraries.messaging import MESSAGING
from resilience.classify.libraries.protocols import PROTOCOLS
from resilience.classify.libraries.sdks import SDKS
from resilience.classify.libraries.web import WEB

LIBRARIES = (*WEB, *SDKS, *CLOUDS, *DATABASES, *MESSAGING, *PROTOCOLS)

__all__ = ["LIBRARIES"]
