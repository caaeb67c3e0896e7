/** A function that answers its gateway with whatever bytes a test wants, beside one that behaves. */
import type { Socket } from 'node:net';
import { expect } from 'vitest';
import { Problem } from '#contract/errors.ts';
import { type Harness, RawClient, withGateway } from '../helpers/gateway-harness.ts';
import { type FakeInstance, startRawInstance } from '../helpers/gateway-instance.ts';
import { call } from '../helpers/http.ts';
import { waitFor } from '../helpers/wait.ts';

/** Writes to the connection on which a request came, and ends when all is written. `id`: the request's. */
export type Attack = (socket: Socket, id: string) => unknown;

/** What the client of an attacked request was left with. */
export interface Outcome {
  /** The function's own answer; one that broke off; or the gateway's problem, by its code. */
  kind: 'own' | 'cut' | 'problem';
  code: string | null;
  status: number;
  body: string;
}

/** What may be said of a function that does not speak HTTP. */
const CODES = new Set(['function-bad-response', 'instance-lost', 'function-crashed', 'function-timeout', 'no-capacity']);
/** Of each function. */
const SLOTS = 100;

const honest = (id: string): string => `HTTP/1.1 200 OK\r\nContent-Length: ${id.length + 3}\r\n\r\nok:${id}`;

/** An attack that waits for its request, and who hears on which connection that came. */
interface Planned {
  attack: Attack;
  written: (socket: Promise<Socket>) => void;
}

export class HostileFunction {
  /** For connections as they are made, before anything was asked. */
  onConnection: (socket: Socket) => void = () => {};
  readonly #harness: Harness;
  /** By the last part of the path. */
  readonly #planned = new Map<string, Planned>();
  #count = 0;

  private constructor(harness: Harness) {
    this.#harness = harness;
  }

  /** `bad` is the function under attack, `neighbour` another one. */
  static async with(timeoutMs: number, body: (hostile: HostileFunction) => Promise<void>): Promise<void> {
    await withGateway(async (harness) => {
      const hostile = new HostileFunction(harness);
      const [bad, neighbour] = [await hostile.#serve('bad'), await hostile.#serve('neighbour')];
      harness.controller.grantOnDemand((revision) => (revision.startsWith('default/bad@') ? bad : neighbour).address, SLOTS);
      const grant = harness.controller.onMessage;
      harness.controller.onMessage = (message) => {
        grant(message);
        // As the controller does, having looked: the instance is there.
        if (message.type === 'suspect') harness.controller.send({ type: 'clear', instance: message.instance });
      };
      harness.controller.route('bad', { timeoutMs });
      harness.controller.route('neighbour', { timeoutMs: 30_000 });
      await harness.controller.settled();
      await body(hostile);
      await waitFor('the end of all requests', () => harness.gateway.state.inFlight === 0, { everyMs: 2 });
      expect(harness.gateway.state).toMatchObject({ waiting: 0, deadlines: 0 });
    });
  }

  async #serve(name: string): Promise<FakeInstance> {
    const heard = new WeakMap<Socket, string>();
    const instance = await startRawInstance(
      this.#harness.socket(name),
      (socket, text) => {
        const requests = ((heard.get(socket) ?? '') + text).split('\r\n\r\n');
        heard.set(socket, requests.pop()!);
        for (const head of requests) this.#answer(socket, head);
      },
      (socket) => this.onConnection(socket),
    );
    this.#harness.defer(() => instance.stop());
    return instance;
  }

  #answer(socket: Socket, head: string): void {
    const id = /\r\nx-request-id: (\S+)/i.exec(head)?.[1] ?? '';
    const planned = this.#planned.get(/^GET \/(\S*) /.exec(head)?.[1] ?? '');
    if (planned === undefined) socket.write(honest(id));
    else {
      planned.written(Promise.resolve(planned.attack(socket, id)).then(() => socket));
    }
  }

  nextId(): string {
    return `id-${String(++this.#count).padStart(6, '0')}-x`;
  }

  /**
   * Asks for what is attacked. Where the answer does not end by itself the function hangs up, unless it is to `wait` for the
   * deadline. `attacked`: the connection to the function.
   */
  async ask(attack: Attack, { wait = false, headers = '' } = {}): Promise<Outcome & { attacked: Socket }> {
    const id = this.nextId();
    const written = new Promise<Socket>((resolve) => this.#planned.set(id, { attack, written: resolve }));
    const client = new RawClient(this.#harness.port).write(
      `GET /bad/${id} HTTP/1.1\r\nHost: a\r\nX-Request-Id: ${id}\r\n${headers === '' ? 'Connection: close\r\n' : headers}\r\n`,
    );
    try {
      const closed = client.untilClosed(30_000);
      const attacked = await written;
      // By then the gateway has read what was written, and the client what the gateway made of it.
      if (!wait) await this.expectWell('neighbour', 3);
      if (!wait && !client.closed) attacked.destroy();
      return { ...outcomeOf(await closed, id), attacked };
    } finally {
      this.#planned.delete(id);
      client.close();
    }
  }

  /** Requests that are answered as they should be, each with its own answer. */
  async expectWell(name: 'bad' | 'neighbour', count = 2): Promise<void> {
    for (let n = 0; n < count; n++) {
      const id = this.nextId();
      const answer = await call(`${this.#harness.url}/${name}/good`, { headers: { 'x-request-id': id } });
      expect([answer.status, answer.text, answer.headers['x-request-id']]).toEqual([200, `ok:${id}`, id]);
    }
  }
}

/** Checks what holds for each answer: one message, well framed, of this request and no other. */
function outcomeOf(text: string, id: string): Outcome {
  const end = text.indexOf('\r\n\r\n');
  // Before a head there is nothing to be cut: a client always learns what became of its request.
  expect(text).toMatch(/^HTTP\/1\.1 \d{3} [^\r\n]*\r\n/);
  const head = text.slice(0, end).toLowerCase();
  expect(
    head
      .split(/\r\nx-request-id: /)
      .slice(1)
      .map((rest) => rest.split('\r\n', 1)[0]),
  ).toEqual([id]);
  expect(new Set(text.match(/id-\d{6}-x/g))).toEqual(new Set([id]));
  const status = Number(text.slice(9, 12));
  const { body, whole, rest } = bodyOf(head, text.slice(end + 4), status);
  expect(rest).toBe('');
  if (!/\r\ncontent-type: application\/problem\+json/.test(head)) return { kind: whole ? 'own' : 'cut', code: null, status, body };
  const problem = Problem.parse(JSON.parse(body));
  expect([problem.status, problem.instance, whole]).toEqual([status, id, true]);
  expect(CODES).toContain(problem.code);
  expect(body).not.toMatch(/node:|\.ts:\d/);
  return { kind: 'problem', code: problem.code, status, body };
}

function bodyOf(head: string, text: string, status: number): { body: string; whole: boolean; rest: string } {
  if (status === 204 || status === 304) return { body: '', whole: true, rest: text };
  const length = /\r\ncontent-length: (\d+)/.exec(head)?.[1];
  if (length !== undefined)
    return { body: text.slice(0, Number(length)), whole: text.length >= Number(length), rest: text.slice(Number(length)) };
  if (!/\r\ntransfer-encoding: chunked/.test(head)) return { body: text, whole: true, rest: '' };
  let body = '';
  for (let at = 0; ;) {
    const line = /^([0-9a-f]+)\r\n/.exec(text.slice(at));
    if (line === null) return { body, whole: false, rest: '' };
    const size = Number.parseInt(line[1]!, 16);
    const from = at + line[0].length;
    if (size === 0) return { body, whole: text.startsWith('\r\n', from), rest: text.slice(from + 2) };
    body += text.slice(from, from + size);
    at = from + size + 2;
  }
}
