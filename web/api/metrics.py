"""Figures for Prometheus at `/metrics`: what the engine is doing, and how requests and replies ended."""

from collections.abc import Iterator, Sequence

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llama_core.engine.request import Request
from web.models.manager import ModelManager
from web.refusals import PREFIX
from web.request_log import Notes

# Paths of their own in the figures. A stranger can ask for any path, and each would be kept for ever.
PATHS = (
    f"{PREFIX}/chat/completions",
    f"{PREFIX}/completions",
    f"{PREFIX}/models",
    f"{PREFIX}/tokens/alternatives",
    "/health",
    "/metrics",
)

FIRST_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
TOKEN_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)

# Name, what it is, and the field of `EngineStats` that it is read from; totals begin anew with each model.
GAUGES = (
    ("slots", "Replies that can be written at once", "slots"),
    ("slots_busy", "Replies that are being written", "busy"),
    ("queue", "Requests that wait for a slot", "queued"),
    ("cache_tokens", "Positions of the cache that hold a token", "context_used"),
    ("cache_capacity_tokens", "Positions of the cache", "context_size"),
)
TOTALS = (
    ("requests", "Requests that got a slot", "requests"),
    ("prompt_tokens", "Prompt tokens that were computed", "tokens_in"),
    ("cached_tokens", "Prompt tokens that were found in the prefix cache", "tokens_cached"),
    ("generated_tokens", "Tokens that were generated", "tokens_out"),
)


class EngineCollector(Collector):
    """The engine's own counts, read when Prometheus asks."""

    def __init__(self, manager: ModelManager):
        self._manager = manager

    def collect(self) -> Iterator[Metric]:
        """Each figure once."""
        stats = self._manager.stats()
        yield GaugeMetricFamily("glass_llama_ready", "Whether requests are answered at once", int(self._manager.ready))
        for name, words, field in GAUGES:
            yield GaugeMetricFamily(f"glass_llama_{name}", words, getattr(stats, field))
        for name, words, field in TOTALS:
            yield CounterMetricFamily(f"glass_llama_{name}", words, getattr(stats, field))


class Metrics:
    """All figures of one app."""

    def __init__(self, manager: ModelManager):
        self._registry = registry = CollectorRegistry()
        registry.register(EngineCollector(manager))
        self._http = Counter(
            "glass_llama_http_requests", "HTTP requests that ended", ["path", "status"], registry=registry
        )
        self._refusals = Counter("glass_llama_refusals", "Requests that were refused", ["code"], registry=registry)
        self._replies = Counter("glass_llama_replies", "Replies by how they ended", ["finish"], registry=registry)
        self._first = Histogram(
            "glass_llama_time_to_first_token_seconds",
            "From a request to its first token",
            buckets=FIRST_SECONDS,
            registry=registry,
        )
        self._token = Histogram(
            "glass_llama_time_per_token_seconds",
            "Between the tokens of a reply, in the mean",
            buckets=TOKEN_SECONDS,
            registry=registry,
        )

    def count_request(self, notes: Notes) -> None:
        """A request ended."""
        path = notes["path"] if notes["path"] in PATHS else "other"
        self._http.labels(path, str(notes["status"])).inc()
        if "code" in notes:
            self._refusals.labels(notes["code"]).inc()

    def count_replies(self, replies: Sequence[Request]) -> None:
        """Replies on the page or to a program ended."""
        for reply in replies:
            self._replies.labels(reply.finish_reason or "cancelled").inc()
            if reply.time_to_first_token is not None:
                self._first.observe(reply.time_to_first_token)
            if reply.tokens_per_second:
                self._token.observe(1 / reply.tokens_per_second)

    def route(self) -> APIRouter:
        """Where Prometheus reads them."""
        router = APIRouter()

        @router.get("/metrics", include_in_schema=False)
        def metrics() -> Response:
            return Response(generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

        return router
