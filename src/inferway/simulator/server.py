"""One simulated model server: an engine behind the HTTP surface of vLLM.

The surface is what a gateway and its clients use: the OpenAI routes, model and adapter lists,
health, metrics. Routes under /sim/ belong to the simulator: faults, counters, reset. Everything
runs in one event loop; nothing here blocks.
"""

import asyncio
import json
from array import array
from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiohttp import web

from . import raw_reply
from .driver import EngineDriver
from .engine import Engine
from .faults import FaultPlan, FaultRule
from .generation import TextGenerator
from .kv_publisher import KvPublisher
from .metrics_page import CONTENT_TYPE, MetricsPage
from .openai_replies import embedding_body
from .openai_requests import (
    ApiError,
    ReplyKind,
    parse_embedding,
    parse_generation,
    parse_object,
    parse_tokenize,
)
from .request_log import RequestLog, SeenRequest
from .served_models import ServedModels
from .tokens import TOKEN_BYTES

VLLM_VERSION = "0.11.0"
BODY_BYTES_MAX = 64 * 2**20
ADAPTERS_MAX = 1000
_TEXT_KINDS: dict[str, ReplyKind] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/responses": "response",
}

Handler = Callable[[web.BaseRequest, bytes, FaultRule | None], Awaitable[raw_reply.RawReply]]


class SimServer:
    """One server: `address` is where it listens, `engine` what it simulates."""

    def __init__(
        self,
        *,
        name: str,
        host: str,
        port: int,
        engine: Engine,
        driver: EngineDriver,
        generator: TextGenerator,
        models: ServedModels,
        wall_clock: Callable[[], float],
        faults: Iterable[FaultRule] = (),
        seed: int = 0,
        kv_events: KvPublisher | None = None,
    ) -> None:
        self.name = name
        self.kv_events = kv_events
        self.engine = engine
        self.driver = driver
        self.models = models
        self.requests = RequestLog()
        self.peers: Mapping[str, SimServer] = {name: self}
        self._host = host
        self._port = port
        self._generator = generator
        self._wall_clock = wall_clock
        self._created_s = int(wall_clock())
        self._seed = seed
        self._plan = FaultPlan(faults, seed=seed)
        self._headers = {"x-inference-pod": name}
        self._metrics = MetricsPage(engine, models.base)
        self._routes = self._build_routes()
        self._paths = {path for _, path in self._routes}
        self._http = web.Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            read_bufsize=2**20,
        )
        self._listener: asyncio.Server | None = None
        self._changed = asyncio.Event()
        self._listening = asyncio.Event()

    # --- life --------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        return self._port

    @property
    def address(self) -> str:
        """host:port, with brackets around an IPv6 host."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    @property
    def faults(self) -> tuple[FaultRule, ...]:
        """The active rules. Setting them takes effect at once; see `listening` for the way back."""
        return self._plan.rules

    @faults.setter
    def faults(self, rules: Iterable[FaultRule]) -> None:
        self._plan = FaultPlan(rules, seed=self._seed)
        if self._plan.refusal is not None:
            self._refuse()
        self._changed.set()

    @property
    def cancelled(self) -> int:
        """Requests whose client went away before the end."""
        return self._generator.cancelled

    async def listening(self) -> None:
        """Returns once the server accepts connections."""
        await self._listening.wait()

    async def listen(self) -> None:
        """Opens the socket. OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            self._http, self._host, self._port, backlog=1024, reuse_address=True
        )
        self._port = self._listener.sockets[0].getsockname()[1]
        self._listening.set()

    async def run(self) -> None:
        """Opens the socket again when a refusal ends, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            refusal = self._plan.refusal
            if refusal is None:
                if self._listener is None:
                    await self.listen()
            elif refusal.duration_s is not None:
                try:
                    await asyncio.wait_for(self._changed.wait(), refusal.duration_s)
                except TimeoutError:
                    self.faults = [rule for rule in self._plan.rules if rule is not refusal]

    async def close(self) -> None:
        """Stops listening and aborts what is open."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._http.shutdown(timeout=0.05)

    def _refuse(self) -> None:
        self._listening.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in self._http.connections:
            if connection.transport is not None:
                connection.transport.abort()

    # --- requests ----------------------------------------------------------------------------

    def _build_routes(self) -> dict[tuple[str, str], Handler]:
        routes: dict[tuple[str, str], Handler] = {
            ("POST", path): self._text_handler(kind) for path, kind in _TEXT_KINDS.items()
        }
        routes |= {
            ("POST", "/v1/embeddings"): self._embeddings,
            ("GET", "/v1/models"): self._list_models,
            ("POST", "/v1/load_lora_adapter"): self._load_adapter,
            ("POST", "/v1/unload_lora_adapter"): self._unload_adapter,
            ("GET", "/health"): self._healthy,
            ("GET", "/ping"): self._healthy,
            ("POST", "/ping"): self._healthy,
            ("GET", "/version"): self._version,
            ("POST", "/tokenize"): self._tokenize,
            ("GET", "/metrics"): self._render_metrics,
            ("GET", "/sim/faults"): self._get_faults,
            ("POST", "/sim/faults"): self._set_faults,
            ("GET", "/sim/requests"): self._get_requests,
            ("POST", "/sim/reset"): self._reset,
        }
        return routes

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        method = request.method
        try:
            body = await _read_body(request)
            self.requests.by_path[path if path in self._paths else "other"] += 1
            handler = self._routes.get((method, path))
            if path.startswith("/v1/"):
                self.requests.recent.append(SeenRequest(method, path, request.headers, len(body)))
            fault = None
            if not path.startswith("/sim/") and (fault := self._plan.choose(path)) is not None:
                early = await self._fault_reply(request, fault)
                if early is not None:
                    return early
            if handler is None:
                raise self._no_route(path)
            return await handler(request, body, fault)
        except ApiError as error:
            return self._send(request, error.status, error.body())
        except ConnectionError:
            return raw_reply.RawReply(keep_alive=False)

    def _no_route(self, path: str) -> ApiError:
        if path in self._paths:
            return ApiError(405, "Method Not Allowed", "MethodNotAllowed")
        return ApiError(404, "Not Found", "NotFoundError")

    async def _fault_reply(
        self, request: web.BaseRequest, fault: FaultRule
    ) -> raw_reply.RawReply | None:
        """The answer of faults that replace it; None for those that only disturb it."""
        match fault.mode:
            case "reset":
                raw_reply.reset(raw_reply.transport_of(request))
                return raw_reply.RawReply(keep_alive=False)
            case "hang":
                await asyncio.Event().wait()
                return None
            case "unavailable":
                error = ApiError(503, "The engine is overloaded", "ServiceUnavailableError")
                headers = {**self._headers, "Retry-After": str(fault.retry_after_s)}
                return raw_reply.send(request, 503, "application/json", error.body(), headers)
            case "error":
                error = ApiError(fault.status, "Injected error", "InternalServerError")
                return self._send(request, fault.status, error.body())
            case _:
                return None

    def _send(self, request: web.BaseRequest, status: int, body: bytes) -> raw_reply.RawReply:
        return raw_reply.send(request, status, "application/json", body, self._headers)

    def _send_json(self, request: web.BaseRequest, value: object) -> raw_reply.RawReply:
        return self._send(request, 200, json.dumps(value).encode())

    def _text_handler(self, kind: ReplyKind) -> Handler:
        async def handle(
            request: web.BaseRequest, body: bytes, fault: FaultRule | None
        ) -> raw_reply.RawReply:
            generation = parse_generation(kind, parse_object(body))
            adapter = self.models.resolve(generation.model)
            model = self.models.base
            self.requests.by_model[generation.model or model] += 1
            return await self._generator.answer(
                request,
                generation,
                model=model,
                adapter=adapter,
                created_s=int(self._wall_clock()),
                fault=fault,
            )

        return handle

    async def _embeddings(
        self, request: web.BaseRequest, body: bytes, fault: FaultRule | None
    ) -> raw_reply.RawReply:
        given = parse_embedding(parse_object(body))
        adapter = self.models.resolve(given.model)
        await self._generator.prefill(given.prompts, model=self.models.base, adapter=adapter)
        body = embedding_body(given, model=given.model or self.models.base)
        return self._send(request, 200, body)

    async def _list_models(
        self, request: web.BaseRequest, body: bytes, fault: FaultRule | None
    ) -> raw_reply.RawReply:
        cards = self.models.cards(
            created_s=self._created_s, max_model_len=self.engine.parameters.max_model_len
        )
        return self._send_json(request, {"object": "list", "data": cards})

    async def _load_adapter(
        self, request: web.BaseRequest, body: bytes, fault: FaultRule | None
    ) -> raw_reply.RawReply:
        fields = parse_object(body)
        name, path = fields.get("lora_name"), fields.get("lora_path")
        if not (isinstance(name, str) and name and isinstance(path, str) and path):
            message = "Both 'lora_name' and 'lora_path' must be provided."
            raise ApiError(400, message, "InvalidUserInput")
        if name in self.models.adapters:
            message = f"The lora adapter '{name}' has already been loaded."
            raise ApiError(400, message, "InvalidUserInput")
        if len(self.models.adapters) >= ADAPTERS_MAX:
            raise ApiError(400, f"More than {ADAPTERS_MAX} adapters", "InvalidUserInput")
        self.models.adapters[name] = path
        return self._send_text(request, f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload_adapter(
        self, request: web.BaseRequest, body: bytes, fault: FaultRule | None
    ) -> raw_reply.RawReply:
        name = parse_object(body).get("lora_name")
        if not (isinstance(name, str) and name):
            message = "'lora_name' needs to be provided to unload a LoRA adapter."
            raise ApiError(400, message, "InvalidUserInput")
        if self.models.adapters.pop(name, None) is None:
            raise ApiError(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        self.engine.adapters.forget(name)
        return self._send_text(request, f"Success: LoRA adapter '{name}' removed successfully.")

    def _send_text(self, request: web.BaseRequest, text: str) -> raw_reply.RawReply:
        return raw_reply.send(
            request, 200, "text/plain; charset=utf-8", text.encode(), self._headers
        )

    async def _healthy(
        self, request: web.BaseRequest, body: bytes, fault: FaultRule | None
    ) -> raw_reply.RawReply:
        return self._send(request, 200, b"")

    async def _version(
        self, request: web.BaseRequest, body: bytes, fault: FaultRule | None
    ) -> raw_reply.RawReply:
        return self._send_json(request, {"version": VLLM_VERSION})

    async def _tokenize(
        self, request: web.BaseRequest, body: bytes, fault: FaultRule | None
    ) -> raw_reply.RawReply:
        prompt = parse_tokenize(parse_object(body))
        padded = prompt.data.ljust(prompt.tokens * TOKEN_BYTES, b"\0")
        return self._send_json(
            request,
            {
                "count": prompt.tokens,
                "max_model_len": self.engine.parameters.max_model_len,
                "tokens": array("I", padded).tolist(),
                "token_strs": None,
            },
        )

    async def _render_metrics(
        self, request: web.BaseRequest, body: bytes, fault: FaultRule | None
    ) -> raw_reply.RawReply:
        page = self._metrics.render(self._wall_clock())
        return raw_reply.send(request, 200, CONTENT_TYPE, page, self._headers)

    # --- the simulator's own routes ----------------------------------------------------------

    async def _get_faults(
        self, request: web.BaseRequest, body: bytes, fault: FaultRule | None
    ) -> raw_reply.RawReply:
        return self._send_json(request, self._plan.to_json())

    async def _set_faults(
        self, request: web.BaseRequest, body: bytes, fault: FaultRule | None
    ) -> raw_reply.RawReply:
        """One rule or a list of them; `"server": NAME` addresses another server of this process."""
        try:
            given = json.loads(body)
            target = self
            entries = given if isinstance(given, list) else [given]
            if isinstance(given, dict) and "server" in given:
                target = self.peers[str(given.pop("server"))]
            rules = [FaultRule.from_json(entry) for entry in entries]
        except ValueError as error:
            raise ApiError(400, str(error)) from error
        except KeyError as error:
            raise ApiError(404, f"no such server: {error.args[0]}", "NotFoundError") from error
        reply = self._send_json(request, {"server": target.name, "faults": len(rules)})
        target.faults = rules
        return reply

    async def _get_requests(
        self, request: web.BaseRequest, body: bytes, fault: FaultRule | None
    ) -> raw_reply.RawReply:
        return self._send_json(
            request,
            {
                "by_path": self.requests.by_path,
                "by_model": self.requests.by_model,
                "cancelled": self.cancelled,
                "lag_dropped_s": self.driver.lag_dropped_s,
            },
        )

    async def _reset(
        self, request: web.BaseRequest, body: bytes, fault: FaultRule | None
    ) -> raw_reply.RawReply:
        """Forgets faults, cached blocks and seen requests; running requests go on."""
        self.faults = ()
        self.engine.blocks.forget_idle()
        self.driver.publish_journal()
        self.requests = RequestLog()
        return self._send_json(request, {"reset": True})


async def _read_body(request: web.BaseRequest) -> bytes:
    content = request.content
    if content.at_eof():
        return b""
    if "Expect" in request.headers:
        raw_reply.transport_of(request).write(b"HTTP/1.1 100 Continue\r\n\r\n")
    pieces: list[bytes] = []
    left = BODY_BYTES_MAX
    while not content.at_eof():
        piece = await content.readany()
        left -= len(piece)
        if left < 0:
            raise ApiError(413, f"The body is larger than {BODY_BYTES_MAX} bytes")
        pieces.append(piece)
    return b"".join(pieces)
