"""What the tests of the registry share."""

from tests.support.driving import ServerError

FIVE_SPELLINGS = (
    "us-east-1",
    "us_east_1",
    "mypurecloud.com",
    "api.mypurecloud.com",
    "https://api.mypurecloud.com/api/v2/conversations",
)


def fail(registry, region):
    registry.get(region).acquire().fail(ServerError())
