/** As much of a dispatcher as its parent sees, for tests of that: says what it was told, and dies or hangs when asked to. */
import { url } from 'node:inspector';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ControllerToDispatcher, DispatcherToController } from '../../controller/dispatcher/types.ts';

const told: unknown[] = [];

/** The address of its debugger, after the signal that opens it. Node acts on that in a thread of its own. */
async function signalled(): Promise<string | null> {
  process.kill(process.pid, 'SIGUSR1');
  for (let n = 0; n < 200 && url() === undefined; n += 1) await sleep(2);
  return url() ?? null;
}
const say = (message: DispatcherToController) => process.send?.(message);

process.on('message', (message: ControllerToDispatcher) => {
  if (message.type === 'config') {
    told.push({
      owner: message.owner,
      retired: message.retired,
      functions: message.functions.map(({ name }) => name),
      secrets: message.secrets,
    });
    say({ type: 'ready' });
  } else if (message.type === 'change') {
    told.push({ set: message.set.map(({ name }) => name), remove: message.remove, secrets: message.secrets });
  } else if (message.type === 'drain') {
    process.exit(0);
  } else {
    const { seq } = message;
    const [, name] = message.args;
    if (name === 'die') process.exit(7);
    else if (name === 'signalled') void signalled().then((debuggerUrl) => say({ type: 'answer', seq, value: { debuggerUrl } }));
    else if (name === 'missing')
      say({
        type: 'problem',
        seq,
        problem: { type: 'x', title: 'x', status: 404, detail: 'not here', code: 'invocation-not-found' },
        retryAfterSeconds: null,
      });
    else if (name !== 'silent') say({ type: 'answer', seq, value: { told, pid: process.pid } });
  }
});
process.on('disconnect', () => process.exit(0));
