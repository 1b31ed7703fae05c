"""`inferway demo`: from nothing to answered requests, and a chart of where they went."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from inferway.cli.demo.report import Affinity
    from inferway.cli.demo.workload import Ask, Seen

MODEL, ADAPTER = "gemma-3", "support-bot"
START_TIMEOUT_S = 60.0
CHATS = 400
DOCUMENTS, QUESTIONS, DOCUMENT_BYTES = 24, 8, 32_000
CONCURRENCY = 12


def demo(
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Leave the gateway running and print a curl line to try."),
    ] = False,
) -> None:
    """Start the gateway over six simulated model servers, send requests, show where they went.

    Two pools with a 90/10 split, a LoRA adapter, and the same load under two policies: prefix
    affinity against round robin.

    Examples: inferway demo · inferway demo --keep
    """
    import asyncio

    raise typer.Exit(asyncio.run(leave_running() if keep else show()))


async def leave_running() -> int:
    """The gateway of the demo, until a signal."""
    import sys
    import tempfile
    from pathlib import Path

    from inferway.cli.demo import manifests

    with tempfile.TemporaryDirectory(prefix="inferway-demo-") as name:
        folder = Path(name)
        port = manifests.write(folder, keep_ports=True)
        body = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
        typer.echo(
            f"manifests, to look at and to change while it runs: {folder}\n"
            f"try: curl -s http://127.0.0.1:{port}/v1/chat/completions "
            f"-H 'content-type: application/json' -d '{body}'\n"
            f"     inferway get\n",
        )
        async with running(folder, admin_port=9090, program=sys.executable) as process:
            return await process.wait()


async def show() -> int:
    """The whole demonstration; the exit code."""
    import sys
    import tempfile
    from pathlib import Path

    from rich.console import Console

    from inferway.cli.demo import manifests
    from inferway.cli.demo.report import affinity, policy_table, traffic_table

    console = Console()
    with tempfile.TemporaryDirectory(prefix="inferway-demo-") as name:
        folder = Path(name)
        port = manifests.write(folder, keep_ports=False)
        (admin_port,) = manifests.free_ports(1)
        url = f"http://127.0.0.1:{port}"
        console.print(f"starting the gateway on {url}, with the manifests in {folder} …")
        async with running(folder, admin_port=admin_port, program=sys.executable):
            await until_ready(f"http://127.0.0.1:{admin_port}/readyz", url)
            chats = await traffic(console, url)
            console.print(traffic_table(f"{CHATS} short chats for {MODEL}, split 90/10", chats))
            runs: list[Affinity] = []
            for seed, policy in enumerate(("round-robin", "marginal-cost")):
                manifests.set_policy(folder, policy)
                await until_policy(f"http://127.0.0.1:{admin_port}", policy)
                seen = await questions(console, url, policy, seed)
                runs.append(affinity(policy, seen))
            title = f"{DOCUMENTS * QUESTIONS} questions for the adapter {ADAPTER}, marginal-cost"
            console.print(traffic_table(title, seen))
            console.print(policy_table(runs))
        failed = sum(one.status != 200 for one in chats) + sum(run.errors for run in runs)
        console.print(f"{CHATS + 2 * DOCUMENTS * QUESTIONS} requests, {failed} errors")
        return 1 if failed else 0


async def traffic(console: Console, url: str) -> list[Seen]:
    from inferway.cli.demo.workload import chats

    asks = chats(CHATS, model=MODEL, seed=1)
    return await send(console, f"{CHATS} short chats", url, asks)


async def questions(console: Console, url: str, policy: str, seed: int) -> list[Seen]:
    """The shared-document load with documents that no cache has seen yet."""
    from inferway.cli.demo.workload import document_questions

    asks = document_questions(
        DOCUMENTS, QUESTIONS, model=ADAPTER, document_bytes=DOCUMENT_BYTES, seed=seed
    )
    return await send(console, f"{len(asks)} questions under {policy}", url, asks)


async def send(console: Console, what: str, url: str, asks: Sequence[Ask]) -> list[Seen]:
    from rich.progress import Progress

    from inferway.cli.demo.workload import send_all

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(what, total=len(asks))
        return await send_all(
            url, asks, concurrency=CONCURRENCY, on_done=lambda _seen: progress.advance(task)
        )


async def until_ready(ready_url: str, url: str) -> None:
    """Until the gateway serves and knows the base model and the adapter."""
    import asyncio

    async with asyncio.timeout(START_TIMEOUT_S):
        while await fetch(ready_url) is None:
            await asyncio.sleep(0.1)
        while True:
            listed = await fetch(f"{url}/v1/models")
            if listed and all(f'"{name}"' in listed for name in (MODEL, ADAPTER)):
                return
            await asyncio.sleep(0.1)


async def until_policy(admin: str, policy: str) -> None:
    """Until the edited file is in force."""
    import asyncio
    import json

    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            pools = await fetch(f"{admin}/admin/resources?kind=InferencePool&name=chat")
            status = await fetch(f"{admin}/admin/status")
            if pools and status:
                (pool,) = json.loads(pools)["items"]
                written = pool["metadata"]["annotations"].get("inferway.dev/policy")
                if written == policy and json.loads(status)["in_effect"]:
                    return
            await asyncio.sleep(0.05)


async def fetch(url: str) -> str | None:
    """The body of a 200; None for anything else."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=2)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as reply:
            return await reply.text() if reply.status == 200 else None
    except (aiohttp.ClientError, TimeoutError):
        return None


@asynccontextmanager
async def running(folder: Path, *, admin_port: int, program: str) -> AsyncIterator[Process]:
    """`inferway run` over the folder; drained and ended with the block."""
    import asyncio
    import signal

    process = await asyncio.create_subprocess_exec(
        *(program, "-m", "inferway", "run", str(folder), "--simulate"),
        *("--admin-port", str(admin_port)),
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    except asyncio.CancelledError:
        pass  # Ctrl-C: the gateway got the signal too, and drains
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
