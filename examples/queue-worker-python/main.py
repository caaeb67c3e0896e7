"""Works off a Redis list in batches: LPUSH texts '{"text": "…"}'. What is no such JSON becomes a dead letter."""

from collections import Counter

words = Counter()
# A message may come twice, when its acknowledgement was lost: its id is the same then.
done = set()


def queue(batch):
    for message in batch:
        if message.id in done:
            continue
        text = message.body.get("text") if isinstance(message.body, dict) else None
        if not isinstance(text, str):
            print(f"attempt {message.attempts}: {message.body!r} has no text")
            message.retry()
            continue
        words.update(text.lower().split())
        done.add(message.id)
    # What was not to be retried is done when the function returns.


def main():
    """GET /: what has come of it so far."""
    return {"texts": len(done), "words": dict(words.most_common(3))}
