"""Write records with the real software, by an interpreter that has it: `python producers.py PRODUCER FOLDER`."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

EVALUATION = "gen_ai.evaluation"


def litellm_records(folder: Path) -> None:
    """Payloads of the SDK: plain calls, a fallback, a retry that never helps, a stream, a model without a price."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no look-up in the network
    import litellm
    from litellm.integrations.custom_logger import CustomLogger

    payloads = []

    class Keep(CustomLogger):
        async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
            payloads.append(kwargs["standard_logging_object"])

        async def async_log_failure_event(self, kwargs, response_obj, start_time, end_time):
            payloads.append(kwargs["standard_logging_object"])

    litellm.callbacks = [Keep()]

    def deployment(group: str, model: str, answer: str, **params: object) -> dict:
        return {
            "model_name": group,
            "litellm_params": {"model": model, "mock_response": answer, "api_key": "none", **params},
            "model_info": {"id": group},
        }

    router = litellm.Router(
        model_list=[
            deployment("small", "openai/gpt-4o-mini", "yes"),
            deployment("large", "openai/gpt-4o", "litellm.RateLimitError"),
            deployment("own", "openai/my-own-model", "yes"),
            deployment("vectors", "openai/text-embedding-3-small", "yes"),
        ],
        fallbacks=[{"large": ["small"]}],
        num_retries=1,
        retry_after=0,
        disable_cooldowns=True,
    )

    def decision(event: str, arm: str) -> dict:
        own = {
            "event_id": event,
            "arm": arm,
            "propensity": 0.5,
            "context": [1.0],
            "eligible": ["small", "large", "own"],
        }
        return {"spend_logs_metadata": {"bandit_router": own}}

    async def main() -> None:
        ask = [{"role": "user", "content": "hello"}]
        for event, arm in (("plain", "small"), ("fallback", "large"), ("unpriced", "own")):
            await router.acompletion(model=arm, messages=ask, metadata=decision(event, arm))
        for _ in range(2):  # nothing of ours tells these apart: LiteLLM's own fields must
            fields = {"spend_logs_metadata": {"bandit_router": {"propensity": 0.5, "context": [1.0]}}}
            await router.acompletion(model="large", messages=ask, metadata=fields)
        stream = await router.acompletion(
            model="small", messages=ask, stream=True, metadata=decision("stream", "small")
        )
        async for _ in stream:
            await asyncio.sleep(0.1)
        await router.aembedding(model="vectors", input=["hello"], metadata=decision("vectors", "small"))
        await asyncio.sleep(3.0)  # the callbacks are called apart

    asyncio.run(main())
    (folder / "payloads.json").write_text(json.dumps(payloads, default=str, indent=2))


KEEP = """
import json, os
from litellm.integrations.custom_logger import CustomLogger

class Keep(CustomLogger):
    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        with open(os.environ["PAYLOADS"], "a") as file:
            file.write(json.dumps(kwargs["standard_logging_object"], default=str) + "\\n")

    async_log_failure_event = async_log_success_event

keep = Keep()
"""


def proxy_records(folder: Path) -> None:
    """Payloads of the proxy, asked over HTTP: plain, a fallback after a retry, a model without price, a stream."""

    def deployment(group: str, model: str, answer: str) -> dict:
        params = {"model": model, "mock_response": answer, "api_key": "none"}
        return {"model_name": group, "litellm_params": params, "model_info": {"id": group}}

    config = {
        "model_list": [
            deployment("small", "openai/gpt-4o-mini", "yes"),
            deployment("large", "openai/gpt-4o", "litellm.RateLimitError"),
            deployment("own", "openai/my-own-model", "yes"),
        ],
        "router_settings": {
            "fallbacks": [{"large": ["small"]}],
            "num_retries": 1,
            "retry_after": 0,
            "disable_cooldowns": True,
        },
        "litellm_settings": {"callbacks": "keep.keep"},
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    (folder / "keep.py").write_text(KEEP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [str(Path(sys.executable).with_name("litellm")), "--config", str(folder / "config.yaml"), "--port", port]
    environment = {
        **os.environ,
        "PAYLOADS": str(folder / "proxy.jsonl"),
        "PYTHONPATH": str(folder),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    server = subprocess.Popen([*command, "--host", "127.0.0.1"], env=environment, stdout=sys.stderr)
    try:
        for event, arm in (("plain", "small"), ("fallback", "large"), ("unpriced", "own"), ("stream", "small")):
            _ask(f"http://127.0.0.1:{port}/chat/completions", event, arm, stream=event == "stream")
        time.sleep(3.0)  # the callbacks are called apart
    finally:
        server.terminate()
        server.wait()


def _ask(url: str, event: str, arm: str, *, stream: bool) -> None:
    own = {"event_id": event, "arm": arm, "propensity": 0.5, "context": [1.0], "eligible": ["small", "large", "own"]}
    headers = {
        "content-type": "application/json",
        "x-litellm-spend-logs-metadata": json.dumps({"bandit_router": own}),
    }
    body = {"model": arm, "messages": [{"role": "user", "content": "hello"}], "stream": stream}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    for _ in range(120):  # seconds until it listens
        try:
            urllib.request.urlopen(request, timeout=30).read()
            return
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:
            time.sleep(1.0)
    raise TimeoutError(url)


def otel_records(folder: Path) -> None:
    """An agent's spans and their evaluations by every exporter that writes text."""
    from opentelemetry import trace
    from opentelemetry._logs import LogRecord
    from opentelemetry.exporter.otlp.json.file._log_exporter import FileLogExporter
    from opentelemetry.exporter.otlp.json.file.trace_exporter import FileSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import ConsoleLogRecordExporter, SimpleLogRecordProcessor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    console = (folder / "console.json").open("w")
    oneline = (folder / "console.jsonl").open("w")
    tracers, loggers = TracerProvider(), LoggerProvider()
    for exporter in (
        ConsoleSpanExporter(out=console),
        ConsoleSpanExporter(out=oneline, formatter=lambda span: span.to_json(indent=None) + "\n"),
        FileSpanExporter(folder / "spans.jsonl"),
    ):
        tracers.add_span_processor(SimpleSpanProcessor(exporter))
    for exporter in (
        ConsoleLogRecordExporter(out=console),
        ConsoleLogRecordExporter(out=oneline, formatter=lambda record: record.to_json(indent=None) + "\n"),
        FileLogExporter(folder / "logs.jsonl"),
    ):
        loggers.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    tracer, logger = tracers.get_tracer("shop"), loggers.get_logger("shop")
    chat = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 10}
    for i in range(4):
        with tracer.start_as_current_span("agent", attributes={**chat, "gen_ai.operation.name": "invoke_agent"}):
            with tracer.start_as_current_span("embeddings") as span:
                span.set_attributes({"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "vectors"})
            with tracer.start_as_current_span("chat") as span:
                model = "gpt-mini" if i % 2 else "gpt-large"
                answered = "gpt-mini" if i == 2 else f"{model}-2026-01-31"
                models = {"gen_ai.request.model": model, "gen_ai.response.model": answered}
                own = {"event_id": f"e{i}", "propensity": 0.5, "context": [float(i), 1.0]}
                span.set_attributes({**chat, **models, **{f"bandit_router.{name}": of for name, of in own.items()}})
                scores = {f"{EVALUATION}.name": "quality", f"{EVALUATION}.score.value": i / 4}
                here = trace.set_span_in_context(span)
                logger.emit(LogRecord(event_name=f"{EVALUATION}.result", attributes=scores, context=here))
    for provider in (tracers, loggers):
        provider.shutdown()


if __name__ == "__main__":
    producers = {"litellm": litellm_records, "proxy": proxy_records, "otel": otel_records}
    producers[sys.argv[1]](Path(sys.argv[2]))
