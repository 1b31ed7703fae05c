"""Resources for `--backend URL`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import translate
from inferway.sources.backends import BackendError, resources_for_backends, with_servers
from inferway.sources.directory import load

if TYPE_CHECKING:
    from pathlib import Path


def addresses(*urls: str) -> list[tuple[str, int | None]]:
    return [
        (address.host, address.port)
        for server in resources_for_backends(urls).model_servers
        for address in server.spec.addresses
    ]


def test_urls_become_servers() -> None:
    assert addresses(
        "http://10.0.0.1:8000", "http://gpu.test/", "http://[2001:db8::0:1]:81", "http://GPU.test:1"
    ) == [("10.0.0.1", 8000), ("gpu.test", 80), ("2001:db8::1", 81), ("gpu.test", 1)]


def test_the_pool_has_them_all() -> None:
    urls = ["http://10.0.0.1:8000", "http://10.0.0.2:8000"]
    resources = resources_for_backends(urls, policy="round-robin", fail_open=False)
    settings = RoutingSettings(policies=("marginal-cost", "round-robin"))
    translation = translate(resources, settings=settings)
    (pool,) = translation.model.pools.values()
    assert [one.host for one in pool.endpoints] == ["10.0.0.1", "10.0.0.2"]
    assert (pool.policy, pool.fail_open) == ("round-robin", False)
    (listener,) = translation.model.listeners
    assert listener.hosts[0].routes[0].targets[0].name == pool.name
    assert str(resources.origin(resources.model_servers[1])).startswith(f"--backend {urls[1]}")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://a.test", "a backend is http://host"),
        ("a.test:80", "a backend is http://host"),
        ("http://", "a backend is http://host"),
        ("http://:80", "a backend is http://host"),
        ("http://a.test:99999", "not a URL.*[Pp]ort"),
        ("http://a.test:0", "not a usable backend"),
        ("http://[::1", "not a URL"),
        ("http://a.test/v1", "no path, query or user"),
        ("http://a.test?x=1", "no path, query or user"),
        ("http://me@a.test", "no path, query or user"),
        ("http://not_a_name!", "not a usable backend"),
        ("http://300.0.0.1", "not a usable backend"),
    ],
)
def test_what_is_no_backend(url: str, says: str) -> None:
    with pytest.raises(BackendError, match=says):
        resources_for_backends(["http://good.test", url])


def test_given_twice() -> None:
    with pytest.raises(BackendError, match=r"given twice: http://b$"):
        resources_for_backends(["http://a", "http://b", "http://c", "http://b"])


def test_servers_beside_a_file_that_configures_the_picker(tmp_path: Path) -> None:
    file = tmp_path / "tuned.yaml"
    file.write_text(
        "apiVersion: llm-d.ai/v1\nkind: EndpointPickerConfig\nplugins: [{type: queue-scorer}]\n"
    )
    snapshot = with_servers(load([file], changed_at=7.0), resources_for_backends(["http://a:1"]))
    assert (snapshot.changed_at, snapshot.problems) == (7.0, ())
    settings = RoutingSettings(picker_config_file=str(file))
    (pool,) = translate(snapshot.resources, settings=settings).model.pools.values()
    assert pool.picker_config is not None
    assert (pool.picker_config.name, pool.policy) == ("tuned", "reference-default")
    assert [one.host for one in pool.endpoints] == ["a"]
    elsewhere = RoutingSettings(picker_config_file="other.yaml")
    (pool,) = translate(snapshot.resources, settings=elsewhere).model.pools.values()
    assert (pool.picker_config, pool.policy) == (None, "marginal-cost")
