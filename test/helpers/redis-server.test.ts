import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { expect, it } from 'vitest';
import { startRedis } from './redis-server.ts';

it('a server that cannot have its port ends with what it said, and does not keep whoever waits for it', async () => {
  // Whoever has the port takes connections, and says nothing.
  const sockets: Socket[] = [];
  const other = createServer((socket) => void sockets.push(socket));
  await once(other.listen(0, '127.0.0.1'), 'listening');
  try {
    await expect(startRedis({ port: (other.address() as AddressInfo).port })).rejects.toThrow(/redis-server ended: [^]*in use/);
  } finally {
    for (const socket of sockets) socket.destroy();
    await once(other.close(), 'close');
  }
});
