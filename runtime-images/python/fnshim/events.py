"""Events: the handlers that a module has for them, and how a request that is one becomes a call of one.

What a request is, its header `fn-event` says, which nobody but the platform can send; `ce-*` headers say nothing by
themselves.
"""

import inspect
import json

from .batch import MessageBatch
from .cloudevents import MalformedEvent, parse_events, parse_time, time_of
from .errors import error_text
from .forms import is_async, parameter_count
from .invocation import Context
from .lambda_events import BadBatchResponse, batch_item_failures, scheduled_event, sqs_event
from .lambda_form import LambdaContext
from .limits import MAX_EVENT_BODY_BYTES
from .logs import log


class ScheduledEvent:
    """A tick of a schedule."""

    def __init__(self, event):
        self.cron = event.extensions.get("cron", "")
        self.timezone = event.extensions.get("timezone", "UTC")
        due = parse_time(event.extensions.get("scheduledtime"))
        # When it was due, milliseconds since 1970.
        self.scheduled_time = int((time_of(event) if due is None else due) * 1000)
        self.id = event.id
        self.data = event.data
        self.event = event


class _Call:
    """Calls a handler of (event[, ctx]) where it belongs: on the loop where it is async, else on a thread."""

    def __init__(self, handler, run_on_thread, make_context=Context, always_two=False):
        self._handler = handler
        self._run_on_thread = run_on_thread
        self._make_context = make_context
        self._on_loop = is_async(handler)
        count = parameter_count(handler)
        self._takes_context = always_two or (count is not None and count >= 2)

    async def __call__(self, given, invocation):
        args = (given, self._make_context(invocation)) if self._takes_context else (given,)
        if self._on_loop:
            result = self._handler(*args)
        else:
            result = await self._run_on_thread(invocation, lambda: self._handler(*args))
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            # Nothing of it has run: taken for done, its messages would be lost.
            raise TypeError(f"{getattr(self._handler, '__name__', 'the handler')} has a yield, so that nothing of it has run; it must be a function")
        return await result if inspect.isawaitable(result) else result


def event_takes(handlers, lambda_, run_on_thread):
    """By the value of `fn-event`: the handler made for it, else `event`, else Lambda's one for everything.

    What is missing, and `invocation`, goes to the handler of HTTP requests.
    """
    calls = {name: _Call(handler, run_on_thread) for name, handler in handlers.items()}
    queue, scheduled, event = calls.get("queue"), calls.get("scheduled"), calls.get("event")
    takes = {}
    if queue:
        takes["queue"] = _take_queue(queue)
    if scheduled:
        takes["schedule"] = _take_one(scheduled, ScheduledEvent)
    if event:
        takes.setdefault("queue", _take_each(event))
        takes.setdefault("schedule", _take_one(event, lambda given: given))
        takes["event"] = _take_one(event, lambda given: given)
    if lambda_ is not None:
        call = _Call(lambda_, run_on_thread, LambdaContext, always_two=True)
        takes.setdefault("queue", _take_records(call))
        takes.setdefault("schedule", _take_one(call, lambda given: scheduled_event(ScheduledEvent(given))))
        takes.setdefault("event", _take_one(call, lambda given: given.to_dict()))
    return takes


def with_events(takes, otherwise):
    """The handler of requests, with those of events before it."""

    async def handle(request, invocation):
        kind = request.head.get(b"fn-event")
        take = None if kind is None else takes.get(kind)
        if take is None:
            return await otherwise(request, invocation)
        response = request.response
        body = await request.body.read_all(MAX_EVENT_BODY_BYTES)
        if body is None:
            request.body.discard()
            detail = f"Events of at most {MAX_EVENT_BODY_BYTES} bytes are taken."
            return response.send_problem(413, "body-too-large", "Body too large", detail, invocation.id)
        try:
            is_batch, events = parse_events(request.head, body)
            await take(is_batch, events, response, invocation)
        except MalformedEvent as error:
            response.send_problem(400, "bad-request", "Bad request", f"The event is malformed: {error}.", invocation.id)

    return handle


def without_http(names):
    """Of a module that has handlers for events only."""

    async def handle(request, invocation):
        kind = request.head.get(b"fn-event")
        what = "HTTP requests" if kind in (None, "invocation") else f"an event of the kind {kind[:50]}"
        detail = f"The function handles events only: it has {', '.join(names)}, and nothing that takes {what}."
        request.response.send_problem(404, "not-found", "Not found", detail, invocation.id)

    return handle


def _take_queue(call):
    async def take(_is_batch, events, response, invocation):
        if not events:
            return _send_failures(response, [])
        batch = MessageBatch(events)
        try:
            await call(batch, invocation)
        except Exception as error:
            failures = batch._failures(True)
            if failures is None:
                raise
            # What it acknowledged before it raised is done, and must not come again.
            log("error", "err", error_text(error), invocation.id)
            return _send_failures(response, failures)
        _send_failures(response, batch._failures(False))

    return take


def _take_each(call):
    """One after the other, in the order of the batch; one that fails does not hold up the others."""

    async def take(is_batch, events, response, invocation):
        failures = []
        for event in events:
            # Nobody would hear of it: all of them come again.
            if invocation.gone.is_set():
                return
            try:
                await call(event, invocation)
            except Exception as error:
                if not is_batch:
                    raise
                log("error", "err", f"event {event.id}: {error_text(error)}", invocation.id)
                failures.append({"itemIdentifier": event.id})
        _send_failures(response, failures)

    return take


def _take_records(call):
    async def take(_is_batch, events, response, invocation):
        if not events:
            return _send_failures(response, [])
        result = await call(sqs_event(events), invocation)
        try:
            _send_failures(response, batch_item_failures(result, events))
        except BadBatchResponse as error:
            detail = f"The handler returned what cannot be understood, so that all of the batch counts as failed: {error}."
            response.send_problem(502, "function-bad-response", "The function sent an invalid response", detail, invocation.id)

    return take


def _take_one(call, shape):
    """What the handler returns is the answer, as JSON; nothing is 204."""

    async def take(_is_batch, events, response, invocation):
        if len(events) != 1:
            raise MalformedEvent(f"one event was expected, and {len(events)} came")
        result = await call(shape(events[0]), invocation)
        if result is None:
            return response.send(204, [], b"")
        response.send(200, [("content-type", "application/json")], json.dumps(result).encode())

    return take


def _send_failures(response, failures):
    response.send(200, [("content-type", "application/json")], json.dumps({"batchItemFailures": failures}).encode())
