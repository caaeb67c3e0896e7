"""`queue(batch[, ctx])`: messages that are acknowledged one by one, together, or by returning. As Workers has it."""

from datetime import datetime, timezone

from .cloudevents import time_of
from .limits import MAX_RETRY_DELAY_SECONDS


class Message:
    """One message of a batch."""

    def __init__(self, event, verdicts):
        self._verdicts = verdicts
        self.id = event.id
        # When it was sent: a datetime in UTC.
        self.timestamp = datetime.fromtimestamp(time_of(event), timezone.utc)
        # Parsed where it was sent as JSON, else str or bytes.
        self.body = event.data
        # 1 the first time that it is delivered.
        self.attempts = event.extensions.get("attempt", 1)
        # Its attributes, and what the trigger tells beside them.
        self.event = event

    def ack(self):
        """Done, whatever becomes of the others of the batch."""
        self._verdicts.ack(self)

    def retry(self, *, delay_seconds=None):
        """To be delivered again."""
        self._verdicts.retry(self, delay_seconds)

    def __repr__(self):
        return f"Message(id={self.id!r}, attempts={self.attempts!r}, body={self.body!r})"


class MessageBatch:
    """Messages that are delivered together. A handler that returns has done all of them; one that raises, none."""

    def __init__(self, events):
        self._verdicts = _Verdicts()
        # Name of the trigger that brought them.
        self.queue = events[0].extensions.get("trigger", events[0].source)
        self.messages = [Message(event, self._verdicts) for event in events]

    def __iter__(self):
        return iter(self.messages)

    def __len__(self):
        return len(self.messages)

    def ack_all(self):
        self._verdicts.of_all = self._verdicts.of_all or (False, None)

    def retry_all(self, *, delay_seconds=None):
        delay = _delay(delay_seconds)
        self._verdicts.of_all = self._verdicts.of_all or (True, delay)

    def _failures(self, raised):
        """What failed, where the handler has returned, or raised. None: it raised, and had said nothing before."""
        verdicts = self._verdicts
        if raised and verdicts.of_all is None and not verdicts.of_one:
            return None
        failures = []
        for message in self.messages:
            retry, delay = verdicts.of_one.get(message) or verdicts.of_all or (raised, None)
            if retry:
                failures.append({"itemIdentifier": message.id, **({} if delay is None else {"delaySeconds": delay})})
        return failures


class _Verdicts:
    """What was said: (whether to retry, its delay). The first word about a message holds, and so does the first about all."""

    def __init__(self):
        self.of_all = None
        self.of_one = {}

    def ack(self, message):
        if self.of_all is None:
            self.of_one.setdefault(message, (False, None))

    def retry(self, message, delay_seconds):
        verdict = (True, _delay(delay_seconds))
        # Of a message that is to be retried, the last delay holds.
        if self.of_one.get(message, verdict)[0] and (self.of_all or verdict)[0]:
            self.of_one[message] = verdict


def _delay(seconds):
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= MAX_RETRY_DELAY_SECONDS:
        raise ValueError(f"delay_seconds is {seconds!r}; it must be a number from 0 to {MAX_RETRY_DELAY_SECONDS}")
    return seconds
