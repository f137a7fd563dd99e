"""What the integrations of HTTP clients share: how a request is admitted, and how it is counted.

Every request that a client sends is a call of its own, one after a redirect included. It ends with
the body of its answer, or with the headers if the status is not a 2xx: nobody has to read the body
of an error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar, cast

from resilience import registry as registries
from resilience._validate import check_callable, check_type, name_of
from resilience.breaker import CircuitBreaker
from resilience.classify import check_classifiers, classify_error, classify_status
from resilience.errors import CircuitBreakerOpenError
from resilience.genesys import KNOWN_REGIONS, canonical_region
from resilience.judge import Classifiers
from resilience.outcome import SUCCESS, Classifier, ResultClassifier
from resilience.permit import Permit
from resilience.registry import CircuitBreakerRegistry

R = TypeVar("R")

_HOSTS_KEPT = 1024
_SUCCESSES = range(200, 300)
_CLIENT_ERROR = 400


@lru_cache(maxsize=_HOSTS_KEPT)
def region_of_host(host: str, port: int | None) -> str:
    """Return the region that a host belongs to.

    Args:
        host: The host of a URL, a name with other letters than ASCII as it is sent: `xn--...`.
        port: Its port; None: that of its scheme.

    Returns:
        The AWS name for a host of Genesys Cloud; otherwise the host, with the port if it has one.
    """
    # The dot at the end of a whole name changes nothing about whose name it is.
    region = canonical_region(host.lower().removesuffix("."))
    if region in KNOWN_REGIONS or port is None:
        return region
    return f"[{region}]:{port}" if ":" in region else f"{region}:{port}"


@dataclass(frozen=True, slots=True)
class RequestOptions(Generic[R]):
    """The options that the integrations of all clients have.

    Args:
        registry: Whose circuits to use; None means `default_registry`.
        region_of: Takes a request and returns its region; None: the region is that of the host.
        classifier: Classifies what a request raises; None: the registry's does.
        result_classifier: Classifies the answers; None: the registry's does.
        observe_limits: Whether the rate limit headers of each answer are read.

    Raises:
        TypeError: An argument has the wrong type.
    """

    registry: CircuitBreakerRegistry | None
    region_of: Callable[[R], str] | None
    classifier: Classifier | None
    result_classifier: ResultClassifier | None
    observe_limits: bool

    def __post_init__(self) -> None:
        if self.registry is not None:
            check_type("registry", self.registry, CircuitBreakerRegistry)
        takes = "a request and returns its region"
        check_callable("region_of", self.region_of, takes, optional=True)
        asked = classify_error if self.classifier is None else self.classifier
        check_classifiers(asked, self.result_classifier)
        check_type("observe_limits", self.observe_limits, bool)


@dataclass(frozen=True, slots=True)
class HttpClient(Generic[R]):
    """What differs from one client library to the next.

    Args:
        region_of_url: Returns the region that a request is for by its URL.
        rejection: The type of the rejection, which is also an error of the library.
        timeout_error: The type of the error that ends a request by the `call_timeout`, likewise.
    """

    region_of_url: Callable[[R], str]
    rejection: type[CircuitBreakerOpenError]
    timeout_error: type[TimeoutError] = TimeoutError


class RequestProtection(Generic[R]):
    """Puts the requests of a client through the circuit breakers of their regions.

    Args:
        options: What the user has set.
        client: The client library.
    """

    def __init__(self, options: RequestOptions[R], client: HttpClient[R]) -> None:
        registry, region_of = options.registry, options.region_of
        self._registry = registries.default_registry if registry is None else registry
        self._region_of = client.region_of_url if region_of is None else region_of
        self._classifiers = Classifiers(
            options.classifier, options.result_classifier, timeout_error=client.timeout_error
        )
        # Then most answers need not be shown to a classifier, which takes as long as all the rest.
        self._needs_status_only = options.result_classifier is classify_status
        self._observe_limits = options.observe_limits
        self._rejection = client.rejection

    def admit(self, request: R) -> Permit:
        """Admit a request.

        Raises:
            CircuitBreakerOpenError: The circuit of its region admits none; `rejection_for` makes it
                an error of the client as well.
            TypeError: `region_of` has not returned a string.
            ValueError: `region_of` has raised, or returned a region that is empty or not allowed.
        """
        return self._find(request).acquire(self._classifiers)

    def answered(
        self, permit: Permit, response: object, status: int, *, has_ended: bool
    ) -> Permit | None:
        """Take an answer, and find out whether its body has to end well, too.

        Only that of a 2xx has to. Any other answer says by its status what there is to know.

        Args:
            permit: The permit under which the request is being sent.
            response: The answer.
            status: Its status.
            has_ended: Whether all of the body has been received.

        Returns:
            A permit to be settled by the end of the body; None: the answer itself is the result of
            the call.
        """
        if self._observe_limits:
            cast("CircuitBreaker", permit.breaker).observe(response)
        if has_ended or status not in _SUCCESSES:
            if self._needs_status_only and status < _CLIENT_ERROR:
                permit.succeed()
            return None
        if self._needs_status_only:
            return permit.hand_over()
        report = permit.judge().of_result(response)
        if report is SUCCESS:
            return permit.hand_over()
        permit.settle(report)
        return None

    def rejection_for(self, error: CircuitBreakerOpenError) -> CircuitBreakerOpenError:
        """Return a rejection as an error of the client as well."""
        if isinstance(error, self._rejection):
            return error
        return self._rejection(error.region, error.state, error.reason, error.retry_after)

    def _find(self, request: R) -> CircuitBreaker:
        try:
            region = self._region_of(request)
        except Exception as error:
            shown = name_of(self._region_of)
            raise ValueError(f"region_of {shown!r} raised {type(error).__name__}") from error
        try:
            return self._registry.get(region)
        except (TypeError, ValueError) as error:
            shown = name_of(self._region_of)
            raise type(error)(f"region_of {shown!r}: {error}") from error.__cause__
