"""What learning the engines' constants is worth: `python -m bench.calibration`, about a minute.

In virtual time (virtual_pool.py): pools of unlike accelerators that no label tells apart, under the
default policy, with the shipped constants for all and with learnt ones. Then how near what was
learnt is to what the simulated engines are made of, without and with garbage among the answers.
"""

from __future__ import annotations

import argparse
import random
from statistics import mean, quantiles
from typing import TYPE_CHECKING

from bench.virtual_pool import VirtualPool, Workload, slower
from inferway._native import Done
from inferway.simulator.parameters import parameters_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.simulator.parameters import EngineParameters

H100, A100 = parameters_named("llama-3-8b-h100"), parameters_named("llama-3-8b-a100")
POOLS: dict[str, list[EngineParameters]] = {
    "2 x H100 + 2 x 3 times slower": [H100, H100, slower(H100, 3.0), slower(H100, 3.0)],
    "2 x H100 + 2 x A100": [H100, H100, A100, A100],
    "4 x H100": [H100] * 4,
    "4 x A100": [A100] * 4,
}
WORKLOADS = {
    "nothing shared": Workload(1.0, prompt_tokens=2_000),
    "40 groups, 60 % shared": Workload(0.7, prompt_tokens=4_000, groups=40),
}


def garbage(ratio: float, seed: int = 1) -> Callable[[Done], Done]:
    """Reports so large a share of the answers with times that are 0.001 to 1000 times as long."""
    source = random.Random(seed)

    def tell(done: Done) -> Done:
        if source.random() >= ratio:
            return done
        factor = source.choice((1e-3, 0.05, 10.0, 1e3))
        return Done(
            stream=done.stream,
            end=done.end,
            usage=done.usage,
            first_seen=done.first_seen,
            event_stream=done.event_stream,
            status=done.status,
            ttft_us=min(int(done.ttft_us * factor), 0xFFFF_FFFF),
            duration_us=min(int(done.duration_us * factor), 0xFFFF_FFFF),
            prompt_tokens=done.prompt_tokens,
            cached_tokens=done.cached_tokens,
            completion_tokens=done.completion_tokens,
            endpoint=done.endpoint,
        )

    return tell


def errors(pool: VirtualPool) -> list[str]:
    """Learnt over true, per endpoint."""
    lines = []
    for address, engine in zip(pool.addresses, pool.engines, strict=True):
        learnt = pool.layer.speeds.calibration.learnt(address)
        if learnt is None:
            continue
        k = learnt.constants
        pairs = {
            "R": k.prefill_tokens_per_s / engine.prefill_tokens_per_s,
            "a_q": k.attention_s / engine.attention_s,
            "t_step": k.step_s / (engine.step_fixed_s + engine.weight_read_s),
            "b_kv": k.context_token_s / engine.kv_read_s,
        }
        shown = "  ".join(f"{name} {ratio:5.2f}" for name, ratio in pairs.items())
        lines.append(
            f"{engine.name:22} {shown}  t_1 {k.first_token_s * 1e3:4.0f} ms"
            f"  from {learnt.observations}, dropped {learnt.dropped}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'seconds: mean TTFT, p99 TTFT, mean duration':58}{'shipped':>22}{'learnt':>22}")
    for name, engines in POOLS.items():
        speed = sum(e.prefill_tokens_per_s for e in engines) / H100.prefill_tokens_per_s
        for load_name, load in WORKLOADS.items():
            for use in (3.0, 4.5):
                made = Workload(
                    load.rate_per_s * speed * use, load.prompt_tokens, groups=load.groups
                )
                cells = []
                for calibrate in (False, True):
                    served = [
                        one
                        for seed in range(options.seeds)
                        for one in VirtualPool(
                            engines, made, calibrate=calibrate, seed=seed + 1
                        ).run(options.seconds)
                        if one.arrived_s > options.seconds / 5
                    ]
                    first = [one.first_token_s for one in served]
                    cells.append(
                        f"{mean(first):7.2f}{quantiles(first, n=100)[98]:7.2f}"
                        f"{mean(one.duration_s for one in served):8.2f}"
                    )
                title = f"{name}, {load_name}, {made.rate_per_s:.0f}/s"
                print(f"{title:58}{cells[0]}{cells[1]}", flush=True)
    print("\nlearnt over true")
    for ratio in (0.0, 0.05, 0.2):
        print(f"with {ratio:.0%} garbage:")
        pool = VirtualPool([H100, slower(H100, 3.0)], Workload(6.0), told=garbage(ratio), seed=1)
        pool.run(options.seconds)
        print("\n".join(errors(pool)))


if __name__ == "__main__":
    main()
