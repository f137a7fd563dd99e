"""Wrong use is a TypeError when decorating."""

import functools
import inspect

import pytest

from resilience import BreakerPolicy, CircuitBreaker, Outcome, region_breaker
from tests.support.decorated import EU, send_message


@pytest.mark.parametrize(
    "region_from",
    [None, 7, b"region", ["region"], True, object()],
    ids=lambda region_from: type(region_from).__name__,
)
def test_a_region_from_of_the_wrong_type_is_a_type_error(region_from):
    kind = type(region_from).__name__
    with pytest.raises(
        TypeError, match=rf"^region_from must be a parameter's name, .*, got {kind}$"
    ):
        region_breaker(region_from=region_from)


@pytest.mark.parametrize(
    "region_from",
    ["", ".", ".region", "credentials.", "credentials..region"],
    ids=repr,
)
def test_a_region_from_with_an_empty_step_is_a_type_error(region_from):
    with pytest.raises(TypeError, match="region_from"):
        region_breaker(region_from=region_from)(send_message)


@pytest.mark.parametrize("region_from", ["regoin", "regoin.name", "self.region"])
def test_a_region_from_that_names_no_parameter_is_a_type_error(region_from):
    async def send_all(credentials, region):
        pass

    with pytest.raises(TypeError, match="send_all") as caught:
        region_breaker(region_from=region_from)(send_all)
    assert region_from in str(caught.value)


async def send_texts(*texts):
    """Send them."""


@pytest.mark.parametrize("target", [send_texts, send_message])
@pytest.mark.parametrize("region_from", ["texts", "texts.region"])
def test_a_region_from_that_names_the_rest_of_the_arguments_is_a_type_error(target, region_from):
    with pytest.raises(TypeError, match=target.__name__):
        region_breaker(region_from=region_from)(target)


def test_region_from_has_to_be_given_and_by_name():
    with pytest.raises(TypeError, match="region_from"):
        region_breaker()


LINE = '@region_breaker(region_from="credentials.region")'


@pytest.mark.parametrize(
    ("given", "got"),
    [(send_message, "function"), ("region", "str"), (None, "NoneType"), (EU.upper, "builtin_func")],
)
def test_without_parentheses_or_keywords_the_error_shows_the_right_line(given, got):
    with pytest.raises(TypeError) as caught:
        region_breaker(given)
    text = str(caught.value)
    assert text.startswith(f"@region_breaker takes its arguments by keyword, got {got}")
    assert text.endswith(f": {LINE}")
    with pytest.raises(TypeError, match="by keyword"):
        region_breaker(given, region_from="region")


def test_the_signature_of_the_decorator_itself_is_kept():
    assert next(iter(inspect.signature(region_breaker).parameters)) == "region_from"
    assert region_breaker.__doc__.startswith("Protect each region")


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (classmethod, "classmethod"),
        (staticmethod, "staticmethod"),
        (property, "property"),
        (functools.cached_property, "cached_property"),
    ],
)
def test_what_stands_over_the_decorator_is_named(protect, wrap, name):
    def send(region):
        return region

    with pytest.raises(TypeError, match=rf"goes under @{name}, not over it, on .*send$"):
        protect()(wrap(send))
    with pytest.raises(TypeError, match=rf"goes under @{name}"):
        CircuitBreaker(EU)(wrap(send))


async def generate_async(region):
    yield region


def generate(region):
    yield region


class Sender:
    def __init__(self, region):
        self.region = region


def plain(region):
    return region


@pytest.mark.parametrize(
    "target",
    [
        generate_async,
        generate,
        Sender,
        classmethod(plain),
        staticmethod(plain),
        property(plain),
        None,
        "send",
        7,
        functools.partial(generate_async),
        functools.partial(generate),
    ],
    ids=lambda target: getattr(target, "__name__", type(target).__name__),
)
def test_what_cannot_be_protected_is_a_type_error(registry, target):
    with pytest.raises(TypeError):
        region_breaker(region_from="region", registry=registry)(target)
    with pytest.raises(TypeError):
        region_breaker(region_from=lambda region: region, registry=registry)(target)
    with pytest.raises(TypeError):
        CircuitBreaker(EU)(target)


@pytest.mark.parametrize("target", [generate_async, generate], ids=["async", "sync"])
def test_the_error_for_a_generator_shows_the_way_out(protect, target):
    with pytest.raises(TypeError, match=r"acquire\(\)") as caught:
        protect()(target)
    assert target.__name__ in str(caught.value)


async def classify_slowly(error):
    return Outcome.FAILURE


@pytest.mark.parametrize("name", ["classifier", "result_classifier"])
@pytest.mark.parametrize(
    "bad",
    ["classify", 7, Outcome.FAILURE, classify_slowly],
    ids=["text", "int", "outcome", "async"],
)
def test_a_bad_classifier_is_a_type_error_that_names_it(protect, name, bad):
    with pytest.raises(TypeError, match=name):
        protect(**{name: bad})(send_message)


@pytest.mark.parametrize("bad", ["registry", {}, CircuitBreaker(EU), BreakerPolicy()], ids=repr)
def test_a_bad_registry_is_a_type_error_that_names_it(bad):
    with pytest.raises(TypeError, match="registry"):
        region_breaker(region_from="region", registry=bad)(send_message)


def test_a_path_into_a_function_without_a_signature_is_a_type_error():
    with pytest.raises(TypeError, match=r"dict.pop.*region_from 'region'.*no signature"):
        region_breaker(region_from="region")({}.pop)


def test_no_error_shows_what_a_partial_was_given():
    def send(token, region):
        pass

    with pytest.raises(TypeError) as caught:
        region_breaker(region_from="region")(functools.partial(send, "a-tenants-bearer-token"))(7)
    assert "bearer" not in str(caught.value)
    assert "send" in str(caught.value)
