"""The measured dictionary as a table, with every target beside its figure, met or missed."""

from __future__ import annotations

from typing import Any

from bench.overhead import features

FEATURES = frozenset(features.RULES)


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def render(result: dict[str, Any], *, stream_tokens: int, idle_servers: int) -> str:
    machine = result["machine"]
    text = (
        f"# Overhead\n\nMedians of {result['rounds']} interleaved rounds; "
        f"commit {machine['commit']}; "
        f"{machine['cpu']}, {machine['cores']} cores shared by load generator, backend and "
        f"gateway; "
        f"load average at start {machine['load_average']:.1f}.\n"
    )
    for case, arms in result.get("cases", {}).items():
        plain = arms.get("envoy", {}).get("requests_per_s")
        text += f"\n## {case}\n\n"
        text += row(["path", "req/s", "to Envoy", "p50 us", "p99 us", "CPU us/request", "errors"])
        text += row(["---"] * 7)
        for arm, figures in arms.items():
            rate = figures["requests_per_s"]
            ratio = f"{rate / plain:.2f}" if plain else "-"
            cpu = ", ".join(f"{role} {us:.1f}" for role, us in figures["cpu_us"].items())
            text += row(
                [
                    *(arm, f"{rate:,.0f}", ratio, f"{figures['p50_us']:,.0f}"),
                    *(f"{figures['p99_us']:,.0f}", cpu or "-", str(figures["errors"])),
                ]
            )
    for case, arms in result.get("streams", {}).items():
        text += f"\n## {case}: CPU per streamed chunk\n\n"
        text += row(["path", "Envoy us/chunk", "all processes us/chunk", "errors"])
        text += row(["---"] * 4)
        for arm, figures in arms.items():
            cpu = figures["cpu_us"]
            text += row(
                [
                    *(arm, f"{cpu.get('envoy', 0.0) / stream_tokens:.2f}"),
                    *(f"{sum(cpu.values()) / stream_tokens:.2f}", str(figures["errors"])),
                ]
            )
    if "idle" in result:
        shares = result["idle"]
        text += f"\n## Idle with {idle_servers} simulated servers\n\n"
        text += row(["process", "share of one core"]) + row(["---"] * 2)
        for role, share in [*shares.items(), ("total", sum(shares.values()))]:
            text += row([role, f"{share:.1%}"])
    return text + "\n## Targets\n\n" + targets(result, stream_tokens)


def targets(result: dict[str, Any], stream_tokens: int) -> str:
    """Every target that this run has the figures for."""
    lines = []

    def check(name: str, measured: float, met: bool, wanted: str) -> None:
        lines.append(row([name, wanted, f"{measured:.2f}", "met" if met else "**missed**"]))

    cases = result.get("cases", {})

    def figure(case: str, arm: str, key: str = "requests_per_s") -> float | None:
        value = cases.get(case, {}).get(arm, {}).get(key)
        return float(value) if value is not None else None

    def compare(name: str, case: str, peer: str, least: float) -> None:
        ours, theirs = figure(case, "inferway"), figure(case, peer)
        if ours and theirs:
            check(name, ours / theirs, ours / theirs >= least, f">= {least}")

    compare("2 KB x 32, to plain Envoy", "2KB x 32", "envoy", 0.75)
    compare("2 KB x 32, to sglang-router", "2KB x 32", "sglang-router", 1.0)
    compare("220 KB x 32, to plain Envoy", "220KB x 32", "envoy", 0.80)
    compare("220 KB x 32, to sglang-router", "220KB x 32", "sglang-router", 2.5)
    ours, plain = figure("2KB x 1", "inferway", "p50_us"), figure("2KB x 1", "envoy", "p50_us")
    if ours and plain:
        check("2 KB x 1, p50 above plain Envoy, us", ours - plain, ours - plain <= 80, "<= 80")
    big = cases.get("4MB x 1", {}).get("inferway", {}).get("cpu_us")
    if big:
        total_ms = sum(big.values()) / 1000
        check("4 MB prompt, CPU in all, ms", total_ms, total_ms <= 15, "<= 15")
    for arms in result.get("streams", {}).values():
        if {"inferway", "envoy"} <= arms.keys():
            ratio = arms["inferway"]["cpu_us"]["envoy"] / max(
                arms["envoy"]["cpu_us"]["envoy"], 1e-9
            )
            check("streamed chunk, Envoy CPU to plain", ratio, ratio <= 1.3, "<= 1.3")
    for case, arms in cases.items():
        for arm in sorted(arms.keys() & FEATURES):
            ratio = figure(case, arm, "to_plain")
            if ratio:
                check(f"{case}, {arm} to our plain path", ratio, ratio >= 0.95, ">= 0.95")
    if "idle" in result:
        total = sum(result["idle"].values())
        check("idle, share of one core", total, total <= 0.10, "<= 0.10")
    return row(["target", "wanted", "measured", ""]) + row(["---"] * 4) + "".join(lines)
