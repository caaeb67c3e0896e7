/** The second of two functions: it hears what became of each charge, once it is over, and of each failure after its last attempt. */
import type { CloudEvent } from 'fn';

/** What a destination is told, as far as it is used here. */
interface Outcome {
  invocation: { id: string; state: 'succeeded' | 'failed'; attempts: number };
  request: { body?: unknown };
  response: { status: number; body?: unknown } | null;
}

const entries: { state: string; attempts: number; request: unknown; status: number | null }[] = [];
/** An outcome may come twice: its id is the same then. */
const seen = new Set<string>();

export function event({ id, data }: CloudEvent<Outcome>): void {
  if (data === undefined || seen.has(id)) return;
  seen.add(id);
  const { invocation, request, response } = data;
  entries.push({ state: invocation.state, attempts: invocation.attempts, request: request.body, status: response?.status ?? null });
}

export function GET(): Response {
  return Response.json({ entries });
}
