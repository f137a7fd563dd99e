"""The set-ups of databases, caches, brokers, mail servers and other protocols than HTTP."""

from dataclasses import replace

from tests.integration.clients import (
    setups_caches,
    setups_databases,
    setups_kafka,
    setups_mail,
    setups_messaging,
    setups_mongo,
    setups_mysql,
    setups_others,
    setups_postgres,
    setups_protocols,
    setups_rabbitmq,
    setups_sqlalchemy,
)
from tests.integration.clients.wire.stream import end_after_data, reset_after_data

# Both are "dropping", each in the way that is not left to luck.
_ENDS = {"an orderly end": end_after_data, "a reset": reset_after_data}
# This client does not take an orderly end for an error: it returns no bytes.
_TRIO = "trio"


def _with_ends(setup):
    ends = {"a reset": reset_after_data} if setup.name == _TRIO else _ENDS
    return replace(setup, outages=setup.outages | ends)


_SETUPS = (
    *setups_postgres.SETUPS,
    *setups_mysql.SETUPS,
    *setups_others.SETUPS,
    *setups_sqlalchemy.SETUPS,
    *setups_mongo.SETUPS,
    *setups_databases.SETUPS,
    *setups_caches.SETUPS,
    *setups_rabbitmq.SETUPS,
    *setups_kafka.SETUPS,
    *setups_messaging.SETUPS,
    *setups_mail.SETUPS,
    *setups_protocols.SETUPS,
)

SETUPS = tuple(_with_ends(setup) for setup in _SETUPS)
