"""Events as AWS's own services bring them to a Lambda handler: SQS's records, EventBridge's schedule."""

import base64
import hashlib
from datetime import datetime, timezone

from .cloudevents import time_of

# Told elsewhere in the record.
_NOT_ATTRIBUTES = ("specversion", "id", "source", "time", "data", "data_base64", "attempt")


class BadBatchResponse(Exception):
    """What a handler returned tells no success from failure: all of the batch counts as failed, as with AWS."""


def sqs_event(events):
    return {"Records": [_record(event) for event in events]}


def _record(event):
    raw = event._raw
    is_text = isinstance(raw, str)
    body = raw if is_text else base64.b64encode(raw).decode()
    sent = str(int(time_of(event) * 1000))
    attributes = {
        "ApproximateReceiveCount": str(event.extensions.get("attempt", 1)),
        "SentTimestamp": sent,
        "SenderId": event.source,
        "ApproximateFirstReceiveTimestamp": sent,
    }
    if "partitionkey" in event.extensions:
        attributes["MessageGroupId"] = event.extensions["partitionkey"]
    record = {
        "messageId": event.id,
        "receiptHandle": event.id,
        "body": body,
        "attributes": attributes,
        "messageAttributes": {
            name: {"stringValue": value, "stringListValues": [], "binaryListValues": [], "dataType": "String"}
            for name, value in event.to_dict().items()
            if name not in _NOT_ATTRIBUTES
        },
        # Part of the shape; a checksum here, and no matter of security.
        "md5OfBody": hashlib.md5(body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest(),
        "eventSource": f"fn:{event.type.removeprefix('fn.')}",
        "eventSourceARN": event.source,
        "awsRegion": "",
    }
    if not is_text:
        # Not of AWS, whose bodies are text: it says that the body had to be made text.
        record["isBase64Encoded"] = True
    return record


def scheduled_event(scheduled):
    due = datetime.fromtimestamp(scheduled.scheduled_time / 1000, timezone.utc)
    return {
        "version": "0",
        "id": scheduled.id,
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "",
        "time": due.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": "",
        "resources": [scheduled.event.source],
        "detail": {} if scheduled.data is None else scheduled.data,
    }


def batch_item_failures(result, events):
    """What failed, by what a handler of Records returned. Nothing, and what has no batchItemFailures, is success of all.

    Raises BadBatchResponse.
    """
    given = result.get("batchItemFailures") if isinstance(result, dict) else None
    if given is None:
        return []
    if not isinstance(given, (list, tuple)):
        raise BadBatchResponse("batchItemFailures is not a list")
    ids = {event.id for event in events}
    failures = []
    for item in given:
        found = item.get("itemIdentifier") if isinstance(item, dict) else None
        if not isinstance(found, str) or found not in ids:
            shown = repr(found)[:100]
            raise BadBatchResponse(f"batchItemFailures has the itemIdentifier {shown}, which is no messageId of the batch")
        failures.append({"itemIdentifier": found})
    return failures
