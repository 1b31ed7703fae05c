"""An endpoint picker in Python that speaks the Endpoint Picker Protocol: ext_proc, full duplex."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc
from google.protobuf import struct_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DESTINATION = "x-gateway-destination-endpoint"
CHUNK_BYTES_MAX = 62_000
# The limit of the reference picker.
MESSAGE_BYTES_MAX = 4 * 1024 * 1024


@dataclass
class ForeignPicker(external_processor_pb2_grpc.ExternalProcessorServicer):  # type: ignore[misc]
    """Answers with `destinations`, and remembers what it was told. `say` is how it names them:
    as header, metadata, or both.
    """

    destinations: str = ""
    say: tuple[str, ...] = ("header", "metadata")
    refusal: tuple[int, str] | None = None
    delay_s: float = 0.0
    bodies: list[int] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    response_chunks: int = 0

    async def Process(self, requests: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:  # noqa: N802
        body = b""
        async for request in requests:
            match request.WhichOneof("request"):
                case "request_headers":
                    headers = request.request_headers.headers.headers
                    self.models += [
                        one.raw_value.decode()
                        for one in headers
                        if one.key == "x-gateway-model-name"
                    ]
                    if request.request_headers.end_of_stream:
                        yield self._choice()
                case "request_body":
                    body += request.request_body.body
                    if request.request_body.end_of_stream:
                        self.bodies.append(len(body))
                        await asyncio.sleep(self.delay_s)
                        if self.refusal is not None:
                            yield self._refusal(*self.refusal)
                            return
                        yield self._choice()
                        for answer in _streamed(body):
                            yield answer
                case "response_headers":
                    known = request.metadata_context.filter_metadata
                    if "envoy.lb" in known:
                        self.served.append(dict(known["envoy.lb"])[f"{DESTINATION}-served"])
                    yield pb.ProcessingResponse(response_headers=pb.HeadersResponse())
                case "response_body":
                    self.response_chunks += 1
                    part = request.response_body
                    yield pb.ProcessingResponse(
                        response_body=_part(part.body, end=part.end_of_stream)
                    )
                case "response_trailers":
                    yield pb.ProcessingResponse(response_trailers=pb.TrailersResponse())

    def _choice(self) -> Any:
        metadata = struct_pb2.Struct()
        changes = []
        if "metadata" in self.say:
            metadata.update({"envoy.lb": {DESTINATION: self.destinations}})
        if "header" in self.say:
            value = base_pb2.HeaderValue(key=DESTINATION, raw_value=self.destinations.encode())
            changes.append(base_pb2.HeaderValueOption(header=value))
        common = pb.CommonResponse(header_mutation=pb.HeaderMutation(set_headers=changes))
        return pb.ProcessingResponse(
            request_headers=pb.HeadersResponse(response=common), dynamic_metadata=metadata
        )

    def _refusal(self, status: int, text: str) -> Any:
        reply = pb.ImmediateResponse(status={"code": status}, body=text.encode())
        return pb.ProcessingResponse(immediate_response=reply)


def _streamed(body: bytes) -> list[Any]:
    parts = [body[at : at + CHUNK_BYTES_MAX] for at in range(0, len(body), CHUNK_BYTES_MAX)]
    parts = parts or [b""]
    return [
        pb.ProcessingResponse(request_body=_part(part, end=number == len(parts) - 1))
        for number, part in enumerate(parts)
    ]


def _part(body: bytes, *, end: bool) -> Any:
    streamed = pb.StreamedBodyResponse(body=body, end_of_stream=end)
    mutation = pb.BodyMutation(streamed_response=streamed)
    return pb.BodyResponse(response=pb.CommonResponse(body_mutation=mutation))


@dataclass(frozen=True)
class Certificate:
    """A certificate that signs itself, for one name."""

    key: Path
    chain: Path


def certificate(folder: Path, name: str) -> Certificate:
    made = Certificate(folder / f"{name}.key", folder / f"{name}.crt")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(made.key), "-out", str(made.chain)),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
        ],
        check=True,
        capture_output=True,
    )
    return made


@asynccontextmanager
async def serving(
    picker: ForeignPicker, *, tls: Certificate | None = None, port: int = 0
) -> AsyncIterator[int]:
    """The port on which the picker serves."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)])
    external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(picker, server)
    address = f"127.0.0.1:{port}"
    if tls is None:
        bound = server.add_insecure_port(address)
    else:
        pair = (tls.key.read_bytes(), tls.chain.read_bytes())
        bound = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(0)
