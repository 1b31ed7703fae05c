"""The dates of certificates: a metric at once, and a remark when their time comes by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from inferway.resources import Gateway
from tests.certificates import issue

from .conftest import MANIFESTS, START

if TYPE_CHECKING:
    from .conftest import World

DAY_S = 86_400
ISSUED = issue("a.org", starts=START, life=timedelta(days=90))
HTTPS = "{name: https, protocol: HTTPS, port: 8443, tls: {certificateRefs: [{name: cert}]}}"
MANIFESTS_TLS = (
    MANIFESTS.replace("listeners: [", f"listeners: [{HTTPS}, ") + "---\n" + ISSUED.secret("cert")
)


def remark(world: World) -> str:
    view = world.reconciler.view
    (gateway,) = view.resources.of_kind(Gateway)
    listener = view.statuses[gateway.key].listeners[0]
    (resolved,) = [one for one in listener.conditions if one.type == "ResolvedRefs"]
    return resolved.message


def expiry(world: World) -> list[str]:
    lines = world.metrics.text().splitlines()
    return [one for one in lines if one.startswith("inferway_certificate_expiry")]


def test_time_alone_brings_the_remark_and_a_new_certificate_takes_it_away(world: World) -> None:
    world.apply(MANIFESTS_TLS)
    assert remark(world) == ""
    moment = (START + timedelta(days=90)).timestamp()
    name = "inferway_certificate_expiry_timestamp_seconds"
    (line,) = expiry(world)
    assert line.startswith(f'{name}{{namespace="default",secret="cert"}}')
    assert float(line.split()[-1]) == moment

    with structlog.testing.capture_logs() as logs:
        world.now_s = 80 * DAY_S
        world.reconciler.reconcile()
        world.reconciler.reconcile()
        assert remark(world).startswith("the certificate of Secret default/cert expires at 2025-")
        world.now_s = 91 * DAY_S
        world.reconciler.reconcile()
    assert "expired" in remark(world)
    said = [one["problem"].split(" at ")[0] for one in logs if one["event"] == "certificate_dates"]
    assert said == [
        "the certificate of Secret default/cert expires",
        "the certificate of Secret default/cert expired",
    ], "each remark once"

    renewed = issue("a.org", starts=START + timedelta(days=80), life=timedelta(days=90))
    world.apply(MANIFESTS_TLS.replace(ISSUED.secret("cert"), renewed.secret("cert")))
    assert remark(world) == ""
    assert len(world.xds) == 2
    before, after = world.xds
    assert before.listeners.version == after.listeners.version, "only the secret is new"
    assert before.routes.version == after.routes.version
    assert before.secrets.version != after.secrets.version

    world.apply()
    assert expiry(world) == [], "what no listener shows has no date"
