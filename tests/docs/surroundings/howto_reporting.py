"""What the page's trackers would send over the network is kept here instead."""

import functools
import io
import json

import sentry_sdk
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.transport import Transport

from inproc_jobs import Discard, Job, job

FAILS = ("Broken",)

events = []
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
output = io.StringIO()
structlog.configure(
    processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
    logger_factory=structlog.PrintLoggerFactory(output),
)


class Kept(Transport):
    def capture_envelope(self, envelope):
        events.extend(item.payload.json for item in envelope.items)


sentry_sdk.init = functools.partial(
    sentry_sdk.init, dsn="http://key@127.0.0.1/1", transport=Kept, auto_enabling_integrations=False
)


def send_mail(to):
    assert trace.get_current_span().get_span_context().is_valid


def afterwards(page):
    class Broken(Job):
        def perform(self, secret):
            raise ValueError("broken")

    @job
    def gone():
        raise Discard("gone")

    page.handler.setStream(lines := io.StringIO())
    with page.tracer.start_as_current_span("request"):
        structlog.contextvars.bind_contextvars(request_id="r-1")
        page.MailJob.perform_async("ada@example.org").wait()
        page.InvoiceJob.perform_async(7).wait()
        Broken.perform_async("hunter2").wait()
        gone.perform_async().wait()

    assert [bool(event.get("exception")) for event in events] == [True, False], events
    assert events[0]["contexts"]["run"]["attempt"] == 1
    spans = {span.name: span for span in exporter.get_finished_spans()}
    jobs = [spans[f"job {name}"] for name in ("page.MailJob", "page.InvoiceJob", "page.afterwards.<locals>.Broken")]
    assert {span.parent.span_id for span in jobs} == {spans["request"].context.span_id}
    assert spans["smtp"].parent.span_id == jobs[0].context.span_id
    assert [span.status.is_ok for span in jobs] == [True, True, False]
    line = json.loads(output.getvalue())
    assert (line["request_id"], line["job"], line["order"]) == ("r-1", "page.InvoiceJob", 7)
    failed = json.loads(lines.getvalue().splitlines()[0])
    assert (failed["level"], failed["job"]) == ("error", "page.afterwards.<locals>.Broken")
    assert "ValueError: broken" in failed["exception"]
    assert 'jobs_failed_total{job="page.afterwards.<locals>.Broken"} 1' in page.metrics()
