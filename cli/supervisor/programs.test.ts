import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { dispatcherEnv } from '../../controller/events/environment.ts';
import { controllerEnv, spawnController, spawnGateway } from './programs.ts';

describe('the platform’s programs', () => {
  it.each(['controller', 'gateway'] as const)('%s: no signal opens its debugger', async (which) => {
    const folder = mkdtempSync(join(tmpdir(), 'fn-programs-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const program = join(folder, 'program.mjs');
    const log = join(folder, 'log');
    // Node acts on the signal in a thread of its own; with the debugger open, url() is defined soon after.
    writeFileSync(
      program,
      `import { url } from 'node:inspector';
       process.kill(process.pid, 'SIGUSR1');
       for (let n = 0; n < 200 && url() === undefined; n += 1) await new Promise((resolve) => setTimeout(resolve, 2));
       console.log(url() ?? 'closed');`,
    );
    const fd = openSync(log, 'a');
    const programs = { gateway: [program], controller: [program], nodeFd: null };
    const child = which === 'controller' ? spawnController(programs, {}, fd) : spawnGateway(programs, {}, fd, { listenFd: fd });
    await once(child, 'exit');
    closeSync(fd);
    expect(readFileSync(log, 'utf8')).toBe('closed\n');
  });

  it('controller and dispatcher: few arenas of the allocator, unless the person says otherwise', () => {
    const arenas = (env: NodeJS.ProcessEnv) => {
      const controller = controllerEnv(env, {});
      return [controller.MALLOC_ARENA_MAX, dispatcherEnv(controller).MALLOC_ARENA_MAX];
    };
    expect(arenas({})).toEqual(['2', '2']);
    expect(arenas({ MALLOC_ARENA_MAX: '8' })).toEqual(['8', '8']);
  });
});
