"""`python -m bench.overload`: in virtual time, then through a gateway; two minutes together."""

from __future__ import annotations

import argparse
import asyncio

from bench.overload import gateway
from bench.overload.scenario import Figures, capacity_of, measure
from inferway.picker.flowcontrol.config import CeilingConfig, ConcurrencyConfig, FlowConfig

ANYTHING = FlowConfig(mode="legacy", detector=ConcurrencyConfig(requests_max=1_000_000))
ARMS = {
    "without flow control": ANYTHING,
    "default": FlowConfig(),
    "hold-back 0.8": FlowConfig(ceiling=CeilingConfig(least_ratio=0.8)),
    "reference's gate": FlowConfig(mode="gate", detector=ConcurrencyConfig(requests_max=32)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="measured, in virtual time")
    parser.add_argument("--gateway-seconds", type=float, default=20.0, help="0: not at all")
    options = parser.parse_args()
    capacity = capacity_of(ANYTHING)
    print(f"in virtual time: 4 engines of 32 places, {capacity:.1f} requests/s when full")
    alone = measure(
        FlowConfig(), capacity=capacity, normal=0.0, wanted=0.4, seconds=options.seconds
    )
    show("priority 10 alone", alone, alone)
    for name, flow in ARMS.items():
        show(name, measure(flow, capacity=capacity, seconds=options.seconds), alone)
    if options.gateway_seconds:
        asyncio.run(gateway.run(options.gateway_seconds))


def show(name: str, found: Figures, alone: Figures) -> None:
    told = found.told
    ratio = found.latency_p95_s["high"] / alone.latency_p95_s["high"]
    print(
        f"{name:22} {found.per_s:5.1f}/s  high: p95 {found.latency_p95_s['high']:.2f} s"
        f" ({ratio:.2f}), first token {found.ttft_p95_s['high']:.3f} s;"
        f" refused {found.refused}; came back as told {told.served} of"
        f" {told.served + told.refused}; told not to {told.never}; Jain {found.jain:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
