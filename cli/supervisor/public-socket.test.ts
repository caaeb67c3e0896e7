import { createServer } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { CliError } from '../errors.ts';
import { openPublicSocket } from './public-socket.ts';

async function takenPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

describe('the public socket', () => {
  it('has a port and a file descriptor before anybody listens on it', () => {
    const socket = openPublicSocket('127.0.0.1', 0);
    expect(socket.port).toBeGreaterThan(0);
    expect(socket.fd).toBeGreaterThan(2);
    socket.close();
  });

  it('on a port that is taken is refused at once, naming the port and how to choose another', async () => {
    const port = await takenPort();
    const open = () => openPublicSocket('127.0.0.1', port);
    expect(open).toThrow(CliError);
    expect(open).toThrow(new RegExp(`port ${port} is taken on 127\\.0\\.0\\.1`));
  });

  it('for TLS says by its own flag how to choose another', async () => {
    const port = await takenPort();
    expect.assertions(2);
    try {
      openPublicSocket('127.0.0.1', port, 'tls-listen');
    } catch (error) {
      expect(error).toBeInstanceOf(CliError);
      expect(error).toMatchObject({ hint: expect.stringContaining(`fn up --tls-listen 127.0.0.1:${port + 1}`) });
    }
  });

  it('says it of the command that was typed', async () => {
    const port = await takenPort();
    const hints = (['fn up', 'fn dev'] as const).map((command) => {
      try {
        return openPublicSocket('127.0.0.1', port, 'port', command).port;
      } catch (error) {
        return error instanceof CliError ? error.hint : error;
      }
    });
    const choose = (command: string) => expect.stringContaining(`Choose another: ${command} --port ${port + 1} `);
    expect(hints).toEqual([choose('fn up'), choose('fn dev')]);
  });

  it.each([
    ['localhost', /not an IP address/],
    ['192.0.2.77', /not an address of this machine/],
  ])('on %s is refused', (host, message) => expect(() => openPublicSocket(host, 0)).toThrow(message));
});
