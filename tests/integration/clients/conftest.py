"""These tests run in an environment of their own: `make test-clients`.

Elsewhere they are not collected, for the client libraries are not installed there.
"""

import os

if "CLIENT_TESTS" in os.environ:
    from xdist.scheduler import LoadScopeScheduling

    class OneWorkerPerClient(LoadScopeScheduling):
        """Keeps the tests of a client together: some clients take ten seconds to be imported."""

        def _split_scope(self, nodeid):
            # test_clients.py::test_a_refusal_is_answered[httpx, sync: 404]
            name, _, case = nodeid.partition("[")[2].partition(": ")
            return name.partition(",")[0] if case else nodeid

    def pytest_xdist_make_scheduler(config, log):
        return OneWorkerPerClient(config, log)

else:
    collect_ignore_glob = ["test_*.py"]
