/** A gateway's end of the link, for tests of the controller: says what it is told to, keeps what it hears. */
import { connect, type Socket } from 'node:net';
import { keepAlive } from '#kit/heartbeat.ts';
import { greetingLine, refusalOf } from '#kit/link-greeting.ts';
import { ControllerMessage, type GatewayMessage, type Lease } from '#contract/link.ts';
import { encodeLine, LineSplitter } from '#kit/ndjson.ts';

type Type = ControllerMessage['type'];
type OfType<T extends Type> = Extract<ControllerMessage, { type: T }>;

export class TestGateway {
  readonly heard: ControllerMessage[] = [];
  readonly #socket: Socket;
  #watchers = new Set<() => void>();
  closed = false;

  /** `greeted`: the first line that is heard is the answer to a greeting. */
  private constructor(socket: Socket, acknowledge: boolean, greeted: boolean) {
    this.#socket = socket;
    let answered = !greeted;
    const lines = new LineSplitter(1024 * 1024);
    socket.on('data', (chunk: Buffer) => {
      for (const line of lines.push(chunk)) {
        if (!answered) {
          answered = true;
          if (refusalOf(line) !== null) socket.destroy();
          continue;
        }
        const message = ControllerMessage.parse(JSON.parse(line));
        this.heard.push(message);
        if (acknowledge && (message.type === 'routes' || message.type === 'welcome'))
          this.say({ type: 'routed', version: message.version });
      }
      for (const watch of this.#watchers) watch();
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.closed = true;
      for (const watch of this.#watchers) watch();
    });
  }

  /** To the link's socket, or over TCP with a token. */
  static async connect(
    at: string | { port: number; token: string },
    options: { gateway?: string; boot?: string; pid?: number; held?: Lease[]; acknowledge?: boolean; term?: number } = {},
  ): Promise<TestGateway> {
    const socket = typeof at === 'string' ? connect(at) : connect(at.port, '127.0.0.1');
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    if (typeof at !== 'string') {
      keepAlive(socket);
      socket.write(greetingLine(at.token));
    }
    const gateway = new TestGateway(socket, options.acknowledge ?? true, typeof at !== 'string');
    gateway.say({
      type: 'hello',
      gateway: options.gateway ?? 'g',
      boot: options.boot ?? 'b',
      pid: options.pid ?? process.pid,
      term: options.term ?? 0,
      held: options.held ?? [],
    });
    return gateway;
  }

  say(message: GatewayMessage): void {
    this.#socket.write(encodeLine(message));
  }

  want(revision: string, waiting: number, inFlight = 0): void {
    this.say({ type: 'want', revision, waiting, inFlight, oldestDeadline: Date.now() + 30_000, serviceMs: 0 });
  }

  /** The `nth` message of a type (1 is the first), as soon as it is there. */
  async next<T extends Type>(type: T, nth = 1): Promise<OfType<T>> {
    for (;;) {
      const found = this.heard.filter((message): message is OfType<T> => message.type === type)[nth - 1];
      if (found) return found;
      if (this.closed)
        throw new Error(`the link closed before ${type} came; heard: ${this.heard.map((message) => message.type).join(' ')}`);
      await new Promise<void>((resolve) => {
        const watch = () => {
          this.#watchers.delete(watch);
          resolve();
        };
        this.#watchers.add(watch);
      });
    }
  }

  /** How often a type was heard. */
  count(type: Type): number {
    return this.heard.filter((message) => message.type === type).length;
  }

  close(): void {
    this.#socket.destroy();
  }
}
