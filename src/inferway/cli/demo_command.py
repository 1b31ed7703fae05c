"""`inferway demo`: from nothing to answered requests, and a chart of where they went."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from rich.console import Console

    from inferway.cli.demo.report import Affinity
    from inferway.cli.demo.workload import Ask, Seen

MODEL, ADAPTER = "gemma-3", "support-bot"
START_TIMEOUT_S = 60.0
POLL_S = 0.05
CHATS = 400
DOCUMENTS, QUESTIONS, DOCUMENT_BYTES = 24, 8, 32_000
CONCURRENCY = 12


class DemoError(Exception):
    """The demonstration cannot go on. The text is for people."""


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
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="inferway-demo-") as name:
        if keep:
            leave_running(Path(name))
        try:
            code = asyncio.run(show(Path(name)))
        except DemoError as error:
            typer.echo(f"the demo ends: {error}", err=True)
            code = 1
    raise typer.Exit(code)


def leave_running(folder: Path) -> NoReturn:
    """The gateway of the demo, until a signal."""
    from inferway.cli.demo import manifests
    from inferway.cli.run import run

    port = manifests.write(folder, keep_ports=True)
    body = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    typer.echo(
        f"manifests, to look at and to change while it runs: {folder}\n"
        f"try: curl -s http://127.0.0.1:{port}/v1/chat/completions "
        f"-H 'content-type: application/json' -d '{body}'\n"
        f"     inferway get\n",
    )
    run([folder], simulate=True)


async def show(folder: Path) -> int:
    """The whole demonstration; the exit code."""
    import sys

    from rich.console import Console

    from inferway.cli.demo import manifests
    from inferway.cli.demo.report import affinity, policy_table, traffic_table

    console = Console()
    port = manifests.write(folder, keep_ports=False)
    (admin_port,) = manifests.free_ports(1)
    url, admin = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}"
    console.print(f"starting the gateway on {url}, with the manifests in {folder} …")
    async with running(folder, admin_port=admin_port, program=sys.executable) as process:
        await until("the gateway is ready", process, lambda: is_ready(admin, url))
        chats = await traffic(console, url)
        console.print(traffic_table(f"{CHATS} short chats for {MODEL}, split 90/10", chats))
        runs: list[Affinity] = []
        seen: list[Seen] = []
        for seed, policy in enumerate(("round-robin", "marginal-cost")):
            manifests.set_policy(folder, policy)
            what = f"policy {policy} is in force"
            await until(what, process, partial(is_in_force, admin, policy))
            seen = await questions(console, url, policy, seed)
            runs.append(affinity(policy, seen))
        title = f"{DOCUMENTS * QUESTIONS} questions for the adapter {ADAPTER}, marginal-cost"
        console.print(traffic_table(title, seen))
        console.print(policy_table(runs))
    failed = sum(not one.good for one in chats) + sum(run.errors for run in runs)
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


async def until(what: str, process: Process, holds: Callable[[], Awaitable[bool]]) -> None:
    """Asks again and again. DemoError when the gateway has ended, or when it takes too long."""
    import asyncio

    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not await holds():
                if process.returncode is not None:
                    raise DemoError(f"the gateway ended with exit code {process.returncode}")
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise DemoError(f"not within {START_TIMEOUT_S:g} s: {what}") from None


async def is_ready(admin: str, url: str) -> bool:
    """Whether the gateway serves and knows the base model and the adapter."""
    if await fetch(f"{admin}/readyz") is None:
        return False
    listed = await fetch(f"{url}/v1/models")
    return listed is not None and all(f'"{name}"' in listed for name in (MODEL, ADAPTER))


async def is_in_force(admin: str, policy: str) -> bool:
    """Whether the edited file is."""
    import json

    pools = await fetch(f"{admin}/admin/resources?kind=InferencePool&name=chat")
    status = await fetch(f"{admin}/admin/status")
    if pools is None or status is None:
        return False
    (pool,) = json.loads(pools)["items"]
    written = pool["metadata"]["annotations"].get("inferway.dev/policy")
    return written == policy and bool(json.loads(status)["in_effect"])


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
    """`inferway run` over the folder; ended with the block, and with us."""
    import asyncio
    import signal

    from inferway.envoy.launcher import with_parent

    command = [program, "-m", "inferway", "run", str(folder), "--simulate"]
    process = await asyncio.create_subprocess_exec(
        *with_parent([*command, "--admin-port", str(admin_port)]),
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C comes to us, and we pass it on once
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
