"""These tests run in an environment of their own: `make test-clients`.

Elsewhere they are not collected, for the client libraries are not installed there.
"""

import os

if "CLIENT_TESTS" not in os.environ:
    collect_ignore_glob = ["test_*.py"]
