/**
 * The first of two functions. It is called with `Prefer: respond-async`, so whoever calls it waits for nothing; what becomes
 * of it goes to the ledger. Orders of one customer (`Fn-Order-Key`) run one after the other; the same `Idempotency-Key` makes
 * one invocation, however often it is sent.
 */
interface Charge {
  customer?: string;
  amount?: number;
}

export default {
  async fetch(request: Request): Promise<Response> {
    const { customer, amount } = (await request.json()) as Charge;
    if (customer === undefined || amount === undefined) throw new TypeError('a charge has a customer and an amount');
    // A card that is declined is an error: it is tried again, and then the ledger hears that it failed.
    if (amount > 1_000) return Response.json({ error: 'declined' }, { status: 402 });
    return Response.json({ customer, charged: amount });
  },
};
