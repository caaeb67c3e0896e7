/** What a connection to an instance tells of one that does not come about. */
import { connect, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { ConnectError, type ConnectionOwner, InstanceConnection } from './instance-connection.ts';
import { instanceRequest, responseHandler } from './testing.ts';

/** What is told where dialling goes so. */
async function failed(dial: () => Socket): Promise<Error> {
  const owner: ConnectionOwner = { dial, afterConnectTimeout: () => () => {}, onClosed: () => {} };
  return new Promise((onError) => new InstanceConnection(owner).send(instanceRequest(), responseHandler({ onError })));
}

const throwing = (code: string) => () => {
  throw Object.assign(new Error(`connect ${code}`), { code });
};
const breaking = (code: string) => () => {
  const socket = connect({ path: '/nowhere/at/all' });
  socket.destroy(Object.assign(new Error(`connect ${code}`), { code }));
  return socket;
};

describe('a connection that does not come about', () => {
  it.each([
    ['EMFILE', true],
    ['ENFILE', true],
    ['ECONNREFUSED', false],
    ['ENOENT', false],
  ])('by %s: whether it is the gateway that has no more files, not the instance that is gone: %s', async (code, own) => {
    for (const dial of [throwing(code), breaking(code)]) {
      const error = await failed(dial);
      expect(error).toBeInstanceOf(ConnectError);
      expect(error).toMatchObject({ own, message: `connect ${code}` });
    }
  });
});
