"""The parts of a picker, wired: what a configuration from control changes."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import aiohttp
import numpy as np
import pytest

from inferway.picker.app import GC_THRESHOLDS, Picker, freeze_memory
from inferway.picker.config import EndpointConfig, PickerConfig, PoolConfig
from inferway.picker.control_link import ConfigRefusedError
from inferway.picker.datalayer.models import Served
from inferway.picker.plugin_library import PluginLibrary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

A = "127.0.0.1:1"


def config(version: int, **more: object) -> PickerConfig:
    pool = PoolConfig(
        name="default/pool", endpoints=(EndpointConfig(address=A, server="default/s"),)
    )
    return PickerConfig.model_validate({"version": version, "pools": (pool,), **more})


@pytest.fixture
async def picker() -> AsyncIterator[Picker]:
    async with aiohttp.ClientSession() as session:
        yield Picker(config(1), session, PluginLibrary())


@pytest.fixture
def collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


async def test_a_configuration_takes_effect(picker: Picker) -> None:
    before = picker.fingerprint()
    picker.apply(config(2, heartbeat_ms=50))
    assert picker.fingerprint() != before
    assert picker.configured.is_set()
    assert picker.server.heartbeat_ms == 50
    status = await picker.status("")
    assert (status.version, status.error) == (2, "")
    assert [e.address for p in status.pools for e in p.endpoints] == [A]
    assert "inferway_configs_applied_total 1.0" in status.metrics


async def test_a_refused_configuration_changes_nothing(picker: Picker) -> None:
    scraper, index = picker.scraper, picker._index
    bad = PickerConfig.model_validate(
        {"version": 2, "pools": [{"name": "a/b", "policy": "luck"}], "index_blocks_max": 7}
    )
    with pytest.raises(ConfigRefusedError, match="luck"):
        picker.apply(bad)
    assert picker.desk.runtime.config.version == 1
    assert (picker.scraper, picker._index) == (scraper, index)
    status = await picker.status("because")
    assert status.error == "because"
    assert "inferway_configs_refused_total 1.0" in status.metrics
    assert not picker.configured.is_set()


async def test_what_models_are_seen_is_worth_telling_at_once(picker: Picker) -> None:
    before = picker.fingerprint()
    picker.desk.layer.models(A, Served(models=("llama", "sql"), adapters=("sql",)))
    assert picker.fingerprint() != before
    (endpoint,) = (await picker.status("")).pools[0].endpoints
    assert (endpoint.models, endpoint.adapters) == (("llama", "sql"), ("sql",))


async def test_new_scrape_settings_need_a_new_scraper(picker: Picker) -> None:
    before = picker.scraper
    picker.apply(config(2))
    assert picker.scraper is before
    picker.apply(config(3, scrape={"timeout_s": 0.5}))
    assert picker.scraper is not before


async def test_the_running_scraper_is_replaced(picker: Picker) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(picker.scrape())
        await asyncio.sleep(0)
        picker.apply(config(2, scrape={"timeout_s": 0.5}))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not running.done()
        running.cancel()


async def test_another_index_size_starts_an_empty_index(picker: Picker) -> None:
    before = picker._index
    picker.apply(config(2, index_blocks_max=1_000))
    assert picker._index is not before
    picker.apply(config(3, index_blocks_max=1_000))
    picker.desk.layer.pools["default/pool"].prefix.insert(0, np.arange(8, dtype=np.uint64), "llama")
    assert len(picker._index) == 8


async def test_the_page_is_not_rendered_for_every_status(picker: Picker) -> None:
    first = (await picker.status("")).metrics
    picker.metrics.pool("default/pool").outcomes[0] += 1
    assert (await picker.status("")).metrics == first


@pytest.mark.usefixtures("collector")
def test_start_up_objects_are_frozen() -> None:
    freeze_memory()
    assert gc.get_freeze_count() > 1_000
    assert gc.get_threshold() == GC_THRESHOLDS
