"""The Genesys regions, and the one name for each."""

import pickle
import string
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.genesys import GenesysRegion, canonical_region

DOMAINS = {
    "us-east-1": "mypurecloud.com",
    "us-east-2": "use2.us-gov-pure.cloud",
    "us-west-2": "usw2.pure.cloud",
    "ca-central-1": "cac1.pure.cloud",
    "mx-central-1": "mxc1.pure.cloud",
    "sa-east-1": "sae1.pure.cloud",
    "eu-west-1": "mypurecloud.ie",
    "eu-west-2": "euw2.pure.cloud",
    "eu-central-1": "mypurecloud.de",
    "eu-central-2": "euc2.pure.cloud",
    "eusc-de-east-1": "edee1.eusc-pure.cloud",
    "me-central-1": "mec1.pure.cloud",
    "ap-south-1": "aps1.pure.cloud",
    "ap-southeast-1": "apse1.pure.cloud",
    "ap-southeast-2": "mypurecloud.com.au",
    "ap-northeast-1": "mypurecloud.jp",
    "ap-northeast-2": "apne2.pure.cloud",
    "ap-northeast-3": "apne3.pure.cloud",
}


def test_the_regions_and_their_domains_are_those_of_genesys_cloud():
    assert {region.value: region.domain for region in GenesysRegion} == DOMAINS


def test_a_region_is_named_after_its_value_and_found_by_it():
    for region in GenesysRegion:
        assert region.name == region.value.replace("-", "_").upper()
        assert GenesysRegion(region.value) is region


def test_a_region_knows_where_calls_go_and_where_tokens_come_from():
    region = GenesysRegion.EU_CENTRAL_1
    assert region.api_url == "https://api.mypurecloud.de"
    assert region.login_url == "https://login.mypurecloud.de"


def test_a_region_is_its_aws_name_wherever_a_text_is_wanted():
    assert GenesysRegion.US_EAST_1 == "us-east-1"
    assert f"{GenesysRegion.US_EAST_1}" == "us-east-1"


def test_a_region_survives_pickling():
    region = GenesysRegion.AP_SOUTH_1
    assert pickle.loads(pickle.dumps(region)) is region


@pytest.mark.parametrize("region", GenesysRegion, ids=str)
def test_every_spelling_of_a_region_is_one_name(region):
    spellings = [
        region,
        region.value,
        region.name,
        region.value.replace("-", "_"),
        region.value.upper(),
        region.domain,
        region.domain.upper(),
        f"api.{region.domain}",
        f"login.{region.domain}",
        f"apps.{region.domain}",
        region.api_url,
        region.login_url,
    ]
    assert {canonical_region(spelling) for spelling in spellings} == {region.value}
    assert {type(canonical_region(spelling)) for spelling in spellings} == {str}


@pytest.mark.parametrize(
    "text",
    [
        "  us-east-1\n",
        "\u00a0us-east-1",
        "us-east_1",
        "mypurecloud.com.",
        "api.mypurecloud.com:443",
        "api.mypurecloud.com/api/v2",
        "https://api.mypurecloud.com/",
        "https://api.mypurecloud.com:8443/api/v2/conversations?expand=a#b",
        "https://api.mypurecloud.com:",
        "https://api.mypurecloud.com.:443/",
        "https://api.mypurecloud.com?next=https://evil.example/",
        "https://api.mypurecloud.com#@evil.example",
        "https://user:secret@api.mypurecloud.com/",
        "http://apps.mypurecloud.com",
        "HTTPS://API.MyPureCloud.COM/API",
        "\t https://login.mypurecloud.com/oauth/token \r\n",
    ],
)
def test_hosts_and_urls_are_recognised_in_full_dress(text):
    assert canonical_region(text) == "us-east-1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        " somewhere ",
        "us-east-3",
        "us east 1",
        "us-east-1.",
        "us-east-1:443",
        "https://us-east-1/",
        "https://evil.example/@api.mypurecloud.com",
        "https://evil.example?@api.mypurecloud.com",
        "https://evil.example#@api.mypurecloud.com",
        "https://evil.example\\@api.mypurecloud.com",
        "https://evil.example @api.mypurecloud.com",
        "https://a@evil.example@api.mypurecloud.com",
        "https://api.mypurecloud.com@evil.example",
        "https://api.mypurecloud.com\\.evil.example",
        "https://api.mypurecloud.com:443@evil.example",
        "https://api.mypurecloud.com:port/",
        "api.mypurecloud.com.evil.example",
        "api.mypurecloud.com..",
        "evil-mypurecloud.com",
        "evil.mypurecloud.com",
        "api.api.mypurecloud.com",
        "someone@mypurecloud.com",
        "ftp://api.mypurecloud.com",
        "//api.mypurecloud.com",
        "https:// api.mypurecloud.com",
        "https://api.mypurecloud.com\n.evil.example",
        "https://api.mypurecloud.com/\n.evil.example",
        "http\u017f://api.mypurecloud.com",
        "https://[",
        "https://[::1]:443/",
        "api.mypurecloud.com:\u0664\u0664\u0663",
        "\ud800",
        "\0",
    ],
)
def test_an_unknown_text_comes_back_as_it_is(text):
    assert canonical_region(text) == text
    assert type(canonical_region(text)) is str


def test_a_subclass_of_str_comes_back_as_the_plain_text_it_holds():
    class Loud(str):
        __slots__ = ()

        def __str__(self):
            return "something else"

    assert canonical_region(Loud("somewhere")) == "somewhere"
    assert type(canonical_region(Loud("somewhere"))) is str
    assert canonical_region(Loud("US_EAST_1")) == "us-east-1"


@pytest.mark.parametrize("value", [None, b"us-east-1", 1, ["us-east-1"], object()])
def test_a_region_that_is_not_a_string_is_a_type_error_that_does_not_show_the_value(value):
    with pytest.raises(TypeError) as caught:
        canonical_region(value)
    expected = f"canonical_region() expects a str, got {type(value).__name__}"
    assert str(caught.value) == expected


ANY_TEXT = st.one_of(
    st.text(st.characters()),
    # Pieces that look like the real thing, so that the corners are met.
    st.lists(
        st.sampled_from(
            [
                *"/\\@:.?# _-\ud800",
                *("https://", "http:", "443", "api", "api.", "us", "us-east-1", "US_EAST_1"),
                *("mypurecloud.com", "evil.example"),
            ]
        ),
        max_size=8,
    ).map("".join),
)


@given(ANY_TEXT)
def test_no_text_raises_and_the_name_of_a_name_is_itself(text):
    name = canonical_region(text)
    assert type(name) is str
    assert canonical_region(name) == name


@given(ANY_TEXT)
def test_a_text_is_either_known_or_unchanged(text):
    assert canonical_region(text) in {text, *DOMAINS}


@given(st.text(string.ascii_letters + string.digits + ".-", min_size=1))
def test_nothing_in_front_of_a_domain_is_taken_for_it(prefix):
    text = f"https://{prefix}x.mypurecloud.com"
    assert canonical_region(text) == text


@given(st.text(string.ascii_letters + string.digits + ".-", min_size=1))
def test_nothing_behind_a_domain_is_taken_for_it(suffix):
    text = f"https://api.mypurecloud.com.x{suffix}"
    assert canonical_region(text) == text


def test_the_file_imports_nothing_heavy():
    program = (
        "import sys; before = set(sys.modules); import importlib.util as u;"
        f"s = u.spec_from_file_location('g', {sys.modules['resilience.genesys'].__file__!r});"
        "m = u.module_from_spec(s); sys.modules['g'] = m; s.loader.exec_module(m);"
        "print(*sorted({n.partition('.')[0] for n in set(sys.modules) - before}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    assert "g" in loaded
    assert not loaded & {"asyncio", "aiohttp", "socket", "logging", "urllib", "loguru", "tenacity"}
