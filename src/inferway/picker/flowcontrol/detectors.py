"""The detector that a configuration names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.flowcontrol.concurrency import Concurrency
from inferway.picker.flowcontrol.config import ConcurrencyConfig, UtilizationConfig
from inferway.picker.flowcontrol.engine_queue import EngineQueue
from inferway.picker.flowcontrol.utilization import Utilization

if TYPE_CHECKING:
    from inferway.picker.flowcontrol.config import DetectorConfig
    from inferway.picker.flowcontrol.saturation import Detector


def detector(config: DetectorConfig) -> Detector:
    if isinstance(config, UtilizationConfig):
        return Utilization(config)
    if isinstance(config, ConcurrencyConfig):
        return Concurrency(config)
    return EngineQueue(config)
