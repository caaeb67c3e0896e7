import { once } from 'node:events';
import { type AddressInfo, type Server, connect, createServer } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { DebuggerPort, inspectorLine } from './debugger.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** An inspector that says who it is. */
async function inspector(name: string): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.write(name);
  }).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

async function greeting(port: number): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  const [data] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return data.toString();
}

describe('DebuggerPort', () => {
  it('leads to the newest instance, and ends what led to the one before', async () => {
    const ours = new DebuggerPort();
    const port = await ours.listen(0);
    try {
      ours.lead(await inspector('one'));
      expect(await greeting(port)).toBe('one');
      const attached = connect(port, '127.0.0.1');
      await once(attached, 'data');
      ours.lead(await inspector('two'));
      await once(attached, 'close');
      expect(await greeting(port)).toBe('two');
    } finally {
      await ours.close();
    }
  });

  it('ends a connection where there is no instance, and where the instance is gone', async () => {
    const ours = new DebuggerPort();
    const port = await ours.listen(0);
    const received = async () => {
      const socket = connect(port, '127.0.0.1').on('error', () => undefined);
      let text = '';
      socket.on('data', (data: Buffer) => (text += data.toString()));
      await once(socket, 'close');
      return text;
    };
    try {
      expect(await received()).toBe('');
      const gone = await inspector('gone');
      servers.pop()!.close();
      ours.lead(gone);
      expect(await received()).toBe('');
    } finally {
      await ours.close();
    }
  });

  it('says which port is taken', async () => {
    const taken = await inspector('other');
    await expect(new DebuggerPort().listen(taken)).rejects.toThrow(new RegExp(`port ${taken} for the debugger cannot be had`));
  });
});

it.each([
  ['Debugger listening on ws://127.0.0.1:37051/6f1c0a9e-4d0c-4c6e-b7a5-0f6b7f0a0c11', 37_051],
  ['For help, see: https://nodejs.org/en/docs/inspector', 'chatter'],
  ['Debugger attached.', 'chatter'],
  ['(node:7) [PERM0004] SecurityWarning: The flag --allow-inspector must be used with extreme caution.', 'chatter'],
  ['the user says Debugger attached.', null],
])('%s', (line, expected) => {
  expect(inspectorLine(line)).toBe(expected);
});
