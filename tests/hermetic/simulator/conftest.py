"""Simulated servers on loopback, much faster than real time, and clients for them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import aiohttp
import openai
import pytest

from inferway.simulator.app import SimOptions, running_servers
from inferway.simulator.parameters import parameters_named
from inferway.simulator.server import SimServer

MODEL = "base-model"


@pytest.fixture
def options() -> SimOptions:
    """Two servers with one adapter; tests override this fixture to change it."""
    engine = replace(parameters_named("llama-3-8b-h100"), max_loras=2)
    return SimOptions(
        model=MODEL,
        aliases=("base-alias",),
        adapters=("tuned",),
        engine=engine,
        servers=2,
        speed=20,
    )


@pytest.fixture
async def servers(options: SimOptions) -> AsyncIterator[list[SimServer]]:
    async with running_servers(options) as running:
        yield running


@pytest.fixture
def server(servers: list[SimServer]) -> SimServer:
    return servers[0]


@pytest.fixture
async def client(server: SimServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with AsyncExitStack() as stack:
        client = openai.AsyncOpenAI(
            base_url=f"http://{server.address}/v1", api_key="none", max_retries=0, timeout=20
        )
        stack.push_async_callback(client.close)
        yield client


@pytest.fixture
async def http(server: SimServer) -> AsyncIterator[aiohttp.ClientSession]:
    """A plain client whose relative URLs go to the first server."""
    timeout = aiohttp.ClientTimeout(total=20)
    base = f"http://{server.address}"
    async with aiohttp.ClientSession(base_url=base, timeout=timeout) as session:
        yield session
