"""All client set-ups, in the order of the documentation's table."""

from tests.integration.clients import (
    setups_ai,
    setups_cloud,
    setups_data,
    setups_grpc,
    setups_http_others,
    setups_httpx,
    setups_requests,
    setups_rpc,
    setups_saas,
    setups_search,
    setups_streams,
)

SETUPS = [
    *setups_httpx.SETUPS,
    *setups_requests.SETUPS,
    *setups_http_others.SETUPS,
    *setups_rpc.SETUPS,
    *setups_streams.SETUPS,
    *setups_grpc.SETUPS,
    *setups_ai.SETUPS,
    *setups_saas.SETUPS,
    *setups_cloud.SETUPS,
    *setups_search.SETUPS,
    *setups_data.SETUPS,
]
