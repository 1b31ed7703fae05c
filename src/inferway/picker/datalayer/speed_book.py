"""The speeds of all endpoints: the class of each, and when policies hear of what is learnt.

Problem: an address may stand in several pools, and a policy derives much from the constants, so
they must not change with every answer. Model: `learn` teaches the calibration, and once in
PUBLISH_S what changed goes to `changed`. A class is pool, engine and accelerator; the accelerator
is what a label of the ModelServer says, if one does. Of several pools the first counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from inferway.picker.config import SpeedStatus
from inferway.picker.datalayer.calibration import Calibration
from inferway.picker.datalayer.latency_samples import LatencySamples
from inferway.picker.scheduling.engine_constants import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from inferway.picker.config import EndpointConfig, PoolConfig
    from inferway.picker.datalayer.accounting import Charge
    from inferway.picker.datalayer.latency_samples import Ended
    from inferway.picker.scheduling.engine_constants import EngineConstants

PUBLISH_S: Final = 1.0
# Our own label first, then those that clouds and the NVIDIA operator put on nodes.
ACCELERATOR_LABELS: Final = (
    "inferway.dev/accelerator",
    "cloud.google.com/gke-accelerator",
    "nvidia.com/gpu.product",
)


class SpeedBook:
    """`changed` takes new constants by address."""

    def __init__(self, changed: Callable[[Mapping[str, EngineConstants]], None]) -> None:
        self.calibration = Calibration()
        self._samples = LatencySamples(self.calibration)
        self._changed = changed
        self._due_s = float("-inf")

    def configure(self, pools: Iterable[PoolConfig]) -> None:
        """The endpoints there are from now on."""
        classes: dict[str, str] = {}
        for pool in pools:
            for endpoint in pool.endpoints:
                classes.setdefault(endpoint.address, _class(pool, endpoint))
        self.calibration.rebind(classes)
        self._samples.rebind(classes.keys())
        self._publish()

    def learn(self, charge: Charge, done: Ended, now_s: float) -> None:
        """A complete answer that is no error."""
        self._samples.learn(charge, done, now_s)
        if now_s >= self._due_s:
            self._due_s = now_s + PUBLISH_S
            self.calibration.forget_idle(now_s)
            self._publish()

    def forget(self, address: str) -> None:
        """The engine restarted."""
        self.calibration.forget(address)

    def status(self, address: str) -> SpeedStatus | None:
        """None while nothing is learnt of the endpoint, nor of its class."""
        learnt = self.calibration.learnt(address)
        if learnt is None or (learnt.constants is SHIPPED and not learnt.dropped):
            return None
        k = learnt.constants
        return SpeedStatus(
            prefill_tokens_per_s=k.prefill_tokens_per_s,
            attention_s=k.attention_s,
            first_token_s=k.first_token_s,
            step_s=k.step_s,
            context_token_s=k.context_token_s,
            observations=learnt.observations,
            dropped=learnt.dropped,
        )

    def _publish(self) -> None:
        if changes := dict(self.calibration.take_changed()):
            self._changed(changes)


def _class(pool: PoolConfig, endpoint: EndpointConfig) -> str:
    labels = endpoint.labels
    accelerator = next((labels[key] for key in ACCELERATOR_LABELS if key in labels), "")
    return f"{pool.name}/{endpoint.engine}/{accelerator}"
