"""The client of MongoDB."""

from tests.integration.clients.client_setup import ClientSetup, Situation, timeout
from tests.integration.clients.servers import drop, hang, serving
from tests.integration.clients.wire import mongo


def _settings():
    milliseconds = int(timeout() * 1000)
    return {
        "directConnection": True,
        "connectTimeoutMS": milliseconds,
        "socketTimeoutMS": milliseconds,
        "serverSelectionTimeoutMS": milliseconds,
        "retryReads": False,
        "retryWrites": False,
    }


_BEHAVIOURS = {
    Situation.UNAVAILABLE: mongo.refusing(91, "ShutdownInProgress"),
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: mongo.cutting,
}

_OUTAGES = {
    "a command that hangs": mongo.hanging_commands,
    "11600 InterruptedAtShutdown": mongo.refusing(11600, "InterruptedAtShutdown"),
    "10107 NotWritablePrimary": mongo.refusing(10107, "NotWritablePrimary"),
    "13435 NotPrimaryNoSecondaryOk": mongo.refusing(13435, "NotPrimaryNoSecondaryOk"),
    "189 PrimarySteppedDown": mongo.refusing(189, "PrimarySteppedDown"),
    "6 HostUnreachable": mongo.refusing(6, "HostUnreachable"),
    "89 NetworkTimeout": mongo.refusing(89, "NetworkTimeout"),
    "133 FailedToSatisfyReadPreference": mongo.refusing(133, "FailedToSatisfyReadPreference"),
    # The limit that the caller set for the server's work: a time-out, whoever measures it.
    "50 MaxTimeMSExpired": mongo.refusing(50, "MaxTimeMSExpired"),
    "14031 OutOfDiskSpace": mongo.refusing(14031, "OutOfDiskSpace"),
}

_REFUSALS = {
    "18 AuthenticationFailed": mongo.refusing(18, "AuthenticationFailed"),
    "13 Unauthorized": mongo.refusing(13, "Unauthorized"),
    "26 NamespaceNotFound": mongo.refusing(26, "NamespaceNotFound"),
    "59 CommandNotFound": mongo.refusing(59, "CommandNotFound"),
    "9 FailedToParse": mongo.refusing(9, "FailedToParse"),
    "2 BadValue": mongo.refusing(2, "BadValue"),
    "11000 DuplicateKey": mongo.refusing(11000, "DuplicateKey", keyPattern={}, keyValue={}),
    # Another transaction was first: the like of a 409.
    "112 WriteConflict": mongo.refusing(112, "WriteConflict"),
    # The throttling of Cosmos DB: the like of a 429.
    "16500 TooManyRequests": mongo.refusing(16500, "TooManyRequests"),
}


def _find(host, port):
    import pymongo

    with pymongo.MongoClient(host, port, **_settings()) as client:
        client.database.collection.find_one()


async def _find_async(host, port):
    import pymongo

    async with pymongo.AsyncMongoClient(host, port, **_settings()) as client:
        await client.database.collection.find_one()


def _log_in(host, port):
    import pymongo

    with pymongo.MongoClient(host, port, username="u", password="p", **_settings()) as client:
        client.database.collection.find_one()


def _closed(host, port):
    import pymongo

    client = pymongo.MongoClient(host, port, **_settings())
    client.close()
    client.database.collection.find_one()


async def _closed_async(host, port):
    import pymongo

    client = pymongo.AsyncMongoClient(host, port, **_settings())
    await client.close()
    await client.database.collection.find_one()


def _wrong_document(host, port):
    import pymongo

    with (
        serving(mongo.refusing(26, "NamespaceNotFound")) as server,
        pymongo.MongoClient(host, server.port, **_settings()) as client,
    ):
        client.database.collection.insert_one({"value": object()})


def _wrong_setting(host, port):
    import pymongo

    pymongo.MongoClient(host, port, no_such_setting=1)


SETUPS = (
    ClientSetup(
        name="PyMongo",
        distributions=("pymongo",),
        call=_find,
        behaviours=_BEHAVIOURS,
        outages=_OUTAGES,
        refusals=_REFUSALS,
        misuse={
            "closed client": _closed,
            "a document that cannot be encoded": _wrong_document,
            "wrong setting": _wrong_setting,
        },
    ),
    ClientSetup(
        name="PyMongo, async",
        distributions=("pymongo",),
        call=_find_async,
        behaviours=_BEHAVIOURS,
        outages=_OUTAGES,
        refusals=_REFUSALS,
        misuse={"closed client": _closed_async},
    ),
    ClientSetup(
        name="PyMongo with a password",
        distributions=("pymongo",),
        call=_log_in,
        behaviours=_BEHAVIOURS,
        refusals={"18 AuthenticationFailed": mongo.refusing(18, "AuthenticationFailed")},
    ),
)
