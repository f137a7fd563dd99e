"""The Genesys Cloud regions, and one name for each, however it is written."""

import re
from enum import StrEnum
from typing import Self


class GenesysRegion(StrEnum):
    """A Genesys Cloud region; its value is the AWS name, such as `us-east-1`."""

    _domain: str

    US_EAST_1 = "us-east-1", "mypurecloud.com"
    US_EAST_2 = "us-east-2", "use2.us-gov-pure.cloud"
    US_WEST_2 = "us-west-2", "usw2.pure.cloud"
    CA_CENTRAL_1 = "ca-central-1", "cac1.pure.cloud"
    MX_CENTRAL_1 = "mx-central-1", "mxc1.pure.cloud"
    SA_EAST_1 = "sa-east-1", "sae1.pure.cloud"
    EU_WEST_1 = "eu-west-1", "mypurecloud.ie"
    EU_WEST_2 = "eu-west-2", "euw2.pure.cloud"
    EU_CENTRAL_1 = "eu-central-1", "mypurecloud.de"
    EU_CENTRAL_2 = "eu-central-2", "euc2.pure.cloud"
    EUSC_DE_EAST_1 = "eusc-de-east-1", "edee1.eusc-pure.cloud"
    ME_CENTRAL_1 = "me-central-1", "mec1.pure.cloud"
    AP_SOUTH_1 = "ap-south-1", "aps1.pure.cloud"
    AP_SOUTHEAST_1 = "ap-southeast-1", "apse1.pure.cloud"
    AP_SOUTHEAST_2 = "ap-southeast-2", "mypurecloud.com.au"
    AP_NORTHEAST_1 = "ap-northeast-1", "mypurecloud.jp"
    AP_NORTHEAST_2 = "ap-northeast-2", "apne2.pure.cloud"
    AP_NORTHEAST_3 = "ap-northeast-3", "apne3.pure.cloud"

    def __new__(cls, name: str, domain: str = "") -> Self:  # noqa: ARG004 - for __init__
        """Make the name alone the value."""
        region = str.__new__(cls, name)
        region._value_ = name
        return region

    def __init__(self, _: str, domain: str = "") -> None:
        self._domain = domain

    @property
    def domain(self) -> str:
        """The region's domain, such as `mypurecloud.com`."""
        return self._domain

    @property
    def api_url(self) -> str:
        """The base URL of API calls, without a trailing slash."""
        return f"https://api.{self._domain}"

    @property
    def login_url(self) -> str:
        """The base URL of the token endpoint, without a trailing slash."""
        return f"https://login.{self._domain}"


_HOST_PREFIXES = ("", "api.", "login.", "apps.")
_NAMES = {region.value for region in GenesysRegion}
_NAME_OF_HOST = {
    prefix + region.domain: region.value for region in GenesysRegion for prefix in _HOST_PREFIXES
}

#: The regions that there are, by their AWS names, and the hosts of their token endpoints: for
#: ``CircuitBreakerRegistry(allowed_regions=KNOWN_REGIONS)``.
KNOWN_REGIONS: frozenset[str] = frozenset(
    _NAMES | {f"login.{region.domain}" for region in GenesysRegion}
)

# User information ends at the first @ and holds nothing that could end the host before it: parsers
# disagree about the rest, and a text that two parsers read differently is not a known region.
_HOST = re.compile(
    r"(?i:(?:https?://(?:[^\s/?#\\@]*@)?)?([a-z0-9.-]+?)\.?(?::[0-9]*)?(?:[/?#].*)?)", re.ASCII
)


# What the regions are named like: `us-east-3`, `api.euw4.pure.cloud`, `mypurecloud.con`.
_LIKE_A_NAME = re.compile(r"(?:us|ca|mx|sa|eu|eusc-de|me|ap|af|il|cn)(?:[-_][a-z]+){1,2}[-_]\d+")
_LIKE_A_DOMAIN = re.compile(r"(?:.*\.)?(?:mypurecloud\..+|.*pure\.cloud)")


def looks_like_region(name: str) -> bool:
    """Return whether a name looks like that of a Genesys region, and is none of the 18.

    Args:
        name: What `canonical_region` has returned.
    """
    if name in KNOWN_REGIONS or canonical_region(name) in _NAMES:
        return False
    text = name.strip().lower()
    if _LIKE_A_NAME.fullmatch(text):
        return True
    host = _HOST.fullmatch(text)
    return host is not None and _LIKE_A_DOMAIN.fullmatch(host[1]) is not None


def canonical_region(text: str) -> str:
    """Return the AWS name of a Genesys region, however the region is written.

    It recognizes AWS names (`us-east-1`, `US_EAST_1`), the regions' domains, their `api.`,
    `login.` and `apps.` hosts, and URLs of these. No string makes it raise.

    Args:
        text: A region's name, host or URL.

    Returns:
        The AWS name as a plain `str`; a text that is not recognized is returned as it is.

    Raises:
        TypeError: `text` is not a `str`.
    """
    if not isinstance(text, str):
        # The wrong object may well be the credentials: the error shows its type alone.
        raise TypeError(f"canonical_region() expects a str, got {type(text).__name__}")
    plain = str.__str__(text)  # the member of a StrEnum becomes its value
    stripped = plain.strip()
    name = stripped.lower().replace("_", "-")
    if name in _NAMES:
        return name
    host = _HOST.fullmatch(stripped)
    return plain if host is None else _NAME_OF_HOST.get(host[1].lower(), plain)
