/**
 * Works off a Redis stream in batches. An order that fails is tried again alone, and is a dead letter after the third
 * time; the rest of its batch is done and does not come again.
 */
import type { Message, MessageBatch } from 'fn';

/** Fields of an entry of the stream: all of them are text. */
interface Order {
  customer: string;
  amount: string;
}

const totals: Record<string, number> = {};
/** A message may come twice, when its acknowledgement was lost: its id is the same then. */
const done = new Set<string>();

export default {
  queue(batch: MessageBatch<Order>): void {
    for (const message of batch.messages) {
      try {
        add(message);
        message.ack();
      } catch (error) {
        console.warn(`attempt ${message.attempts} of ${message.id}: ${String(error)}`);
        message.retry();
      }
    }
  },

  /** What has come of it so far. */
  fetch: (): Response => Response.json({ totals, orders: done.size }),
};

function add({ id, body: { customer, amount } }: Message<Order>): void {
  if (done.has(id)) return;
  const euros = Number(amount);
  if (!customer || !(euros > 0)) throw new TypeError(`an order of ${customer || 'nobody'} over ${amount}`);
  totals[customer] = (totals[customer] ?? 0) + euros;
  done.add(id);
}
