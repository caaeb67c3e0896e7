/**
 * A Kafka cluster to test against: librdkafka's own mock, which it tests itself with. It speaks the protocol up to the
 * versions of about Kafka 2.4 (groups, commits with generations, transactions), and keeps all in memory. Debian has
 * no Kafka: what was tested was tested against this.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { join } from 'node:path';

export interface KafkaMock {
  /** HOST:PORT */
  bootstrap: string;
  createTopic(name: string, partitions: number): Promise<void>;
  /** Ends all connections and answers nobody; what is in it stays. */
  down(): Promise<void>;
  up(): Promise<void>;
  stop(): Promise<void>;
}

export async function startKafkaMock(): Promise<KafkaMock> {
  const child = spawn('python3', [join(import.meta.dirname, 'kafka-mock.py')], { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk) => (said += String(chunk)));
  const ended = once(child, 'close');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<string> => {
    const { value, done } = await lines.next();
    if (done === true) throw new Error(`the mock cluster ended (is librdkafka1 installed?)\n${said}`);
    return value;
  };
  const bootstrap = await line();
  const command = async (text: string): Promise<void> => {
    child.stdin.write(`${text}\n`);
    const code = await line();
    if (code !== '0') throw new Error(`the mock cluster refuses ${text}: error ${code}`);
  };
  return {
    bootstrap,
    createTopic: (name, partitions) => command(`topic ${name} ${partitions}`),
    down: () => command('down'),
    up: () => command('up'),
    async stop() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}
