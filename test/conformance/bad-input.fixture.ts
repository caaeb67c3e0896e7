/** What the table of bad input is tried on: listeners that are real, and raw sockets to them. */
import { connect, type NetConnectOpts } from 'node:net';
import { expect } from 'vitest';
import { Problem } from '#contract/errors.ts';
import { type Harness, withGateway } from '../helpers/gateway-harness.ts';

/** How bytes may come. */
export const WAYS = ['in one piece', 'byte by byte', 'in pieces'] as const;
export type Way = (typeof WAYS)[number];

/** Longer ones come in pieces only: a hundred thousand packets say nothing that a hundred do not. */
const MAX_SINGLE_BYTES = 400;
const PIECES = 7;
const ANSWER_TIMEOUT_MS = 20_000;

function cut(bytes: Buffer, way: Way): Buffer[] {
  if (way === 'in one piece') return [bytes];
  const size = way === 'byte by byte' && bytes.length <= MAX_SINGLE_BYTES ? 1 : Math.max(1, Math.ceil(bytes.length / PIECES));
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) => bytes.subarray(index * size, (index + 1) * size));
}

export interface RawAnswer {
  status: number;
  /** Lower-case names. */
  headers: Map<string, string>;
  problem: Problem;
  /** Whether the server closed the connection, having said so. */
  closed: boolean;
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

/**
 * Sends bytes, and reads one answer: a problem, with all that one must have. Whoever is answered before all is sent sends no
 * more. Throws where there is no answer, or more than one.
 */
export async function refusedAnswer(target: NetConnectOpts, bytes: Buffer, way: Way = 'in one piece'): Promise<RawAnswer> {
  const socket = connect({ ...target, noDelay: true });
  let text = '';
  let closed = false;
  const answered = new Promise<void>((resolve) => {
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      // One that closes the connection is over when that is closed.
      if (/\r\n\r\n\{.*\}/s.test(text) && !/\r\nconnection: close\r\n/i.test(text)) resolve();
    });
    socket.on('close', () => {
      closed = true;
      resolve();
    });
  });
  socket.on('error', () => {});
  const limit = setTimeout(() => socket.destroy(), ANSWER_TIMEOUT_MS);
  const pieces = cut(bytes, way);
  for (const piece of pieces) {
    if (text !== '' || closed) break;
    socket.write(piece);
    // Twice: once for the server, once for what it says.
    if (pieces.length > 1) await turn().then(turn);
  }
  await answered;
  clearTimeout(limit);
  socket.destroy();
  return { ...read(text), closed };
}

/** A problem as it must be. */
function read(text: string): Omit<RawAnswer, 'closed'> {
  const [head = '', ...rest] = text.split('\r\n\r\n');
  const [line = '', ...lines] = head.split('\r\n');
  expect(line).toMatch(/^HTTP\/1\.1 \d{3} ./);
  const headers = new Map(lines.map((one) => [one.slice(0, one.indexOf(':')).toLowerCase(), one.slice(one.indexOf(':') + 1).trim()]));
  const body = rest.join('\r\n\r\n');
  const status = Number(line.slice(9, 12));
  expect(headers.get('content-type')).toBe('application/problem+json');
  // One answer, and nothing behind it.
  if (headers.has('content-length')) expect(Number(headers.get('content-length'))).toBe(Buffer.byteLength(body, 'latin1'));
  const problem = Problem.parse(JSON.parse(Buffer.from(body, 'latin1').toString()));
  expect(problem).toMatchObject({ status, type: `urn:fn:error:${problem.code}` });
  for (const said of [problem.title, problem.detail]) expect(said).not.toBe('');
  expect([problem.instance, headers.get('x-request-id')]).toEqual([expect.stringMatching(/^\S+$/), problem.instance]);
  if (problem.code === 'invalid' && problem.errors !== undefined)
    for (const { pointer, detail } of problem.errors) expect([typeof pointer, detail]).toEqual(['string', expect.stringMatching(/\S/)]);
  expect(text).not.toMatch(/node:|\.ts:\d|node_modules|    at /);
  if (status === 429 || status === 503) expect(headers.get('retry-after')).toMatch(/^[1-9]\d*$/);
  if (status === 405) expect(headers.get('allow')).toMatch(/^[A-Z]+(?:, [A-Z]+)*$/);
  if (status === 401) expect(headers.get('www-authenticate')).toBe('Bearer realm="fn"');
  return { status, headers, problem };
}

/** A gateway that stays until it is closed. */
export async function openGateway(options: Parameters<typeof withGateway>[1]): Promise<{ harness: Harness; close: () => Promise<void> }> {
  let release = (): void => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  return new Promise((resolve, reject) => {
    const ended = withGateway(async (harness) => {
      resolve({
        harness,
        close: async () => {
          release();
          await ended;
        },
      });
      await released;
    }, options);
    ended.catch(reject);
  });
}
