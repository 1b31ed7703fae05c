"""A pool's conduct in a running gateway, as the openai client sees it and does not see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest

from inferway.simulator.faults import FaultRule

from .running import pool_manifest, running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from pathlib import Path

    from openai.types.chat import ChatCompletionChunk

    from .running import RunningGateway

pytestmark = pytest.mark.hermetic

PATH = "/v1/chat/completions"
CONFIG = """
apiVersion: inferway.dev/v1alpha1
kind: EndpointPickerConfig
metadata: {name: kind}
plugins: [{type: round-robin}]
health: {ejection: false}
conduct:
  responseHeaders: true
  includeUsage: true
  sessionCookie: chat-session
  firstTokenDeadline: 500ms
---
"""


async def chat(gateway: RunningGateway) -> tuple[list[ChatCompletionChunk], openai.APIError | None]:
    """The chunks of one stream, and the error that ended it."""
    chunks: list[ChatCompletionChunk] = []
    stream = await gateway.openai.chat.completions.create(
        model="llama", messages=[{"role": "user", "content": "Hi"}], max_tokens=20, stream=True
    )
    try:
        async for chunk in stream:
            chunks.append(chunk)  # noqa: PERF401 - what came before an error is kept
    except openai.APIError as error:
        return chunks, error
    return chunks, None


async def accounted(gateway: RunningGateway, responses: int) -> bool:
    async with gateway.session.get(f"{gateway.admin}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    counts = [one for one in lines if one.startswith("llm_d_epp_request_output_tokens_count{")]
    return [one.rpartition(" ")[2] for one in counts] == [f"{responses}.0"]


async def test_conduct_as_a_client_sees_it(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    async with servers(2, model="llama", engine="instant") as running:
        pool = pool_manifest("all", annotations="inferway.dev/picker-config: kind")
        text = CONFIG + pool + "".join(server_manifest(one, "all") for one in running)
        (folder / "all.yaml").write_text(text)
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:
            body = {"model": "llama", "messages": [], "max_tokens": 1}
            status, headers, _ = await gateway.post(body)
            assert status == 200
            assert headers["x-inferway-endpoint"] in {one.address for one in running}
            assert headers["x-inferway-attempts"] == "1"
            assert headers["x-inferway-queue-ms"] == "0.000"
            assert headers["set-cookie"].startswith("chat-session=")

            # Usage is accounted, and not shown.
            chunks, error = await chat(gateway)
            assert error is None
            assert chunks[-1].choices[0].finish_reason is not None
            assert all(chunk.usage is None for chunk in chunks)
            await gateway.until("the usage of both is accounted", lambda: accounted(gateway, 2))

            # Whoever of the two is slow: the other one answers, and nobody sees it.
            running[0].faults = (FaultRule("slow_first_token", PATH, seconds=60),)
            for _ in range(4):
                chunks, error = await chat(gateway)
                assert error is None
                assert chunks[-1].choices[0].finish_reason is not None

            # A stream that breaks is an error, however it breaks, and is not sent again.
            for mode, code in (
                ("cut_stream", "stream_interrupted"),
                ("end_early", "stream_truncated"),
            ):
                for one in running:
                    one.faults = (FaultRule(mode, PATH, after_chunks=3),)
                seen = sum(one.requests.by_path[PATH] for one in running)
                chunks, error = await chat(gateway)
                assert error is not None
                assert error.code == code
                assert len(chunks) == 3
                assert sum(one.requests.by_path[PATH] for one in running) == seen + 1
