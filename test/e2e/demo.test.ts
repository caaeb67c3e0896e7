/** The first two minutes: a fresh copy of the tree, one command. */
import { cpSync, mkdtempSync, readdirSync, rmSync, symlinkSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { findLeaks, removeLeftovers } from '../helpers/leaks.ts';
import { TestPlatform, freePort } from '../helpers/platform.ts';
import { ROOT } from '../helpers/root.ts';
import { drivers } from '../helpers/suite.ts';

const NOT_COPIED = new Set(['node_modules', '.git', 'dist', 'bench-results', 'coverage']);

/** What a clone would hold; `installed`: after `npm ci`. */
function freshCopy({ installed }: { installed: boolean }): string {
  const copy = mkdtempSync(join(tmpdir(), 'fn-clone-'));
  for (const name of readdirSync(ROOT)) if (!NOT_COPIED.has(name)) cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  if (installed) {
    symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
    // Older than the installation, or ./fn would install again, through the link.
    utimesSync(join(copy, 'package-lock.json'), 0, 0);
  }
  return copy;
}

describe('fn demo', () => {
  it.each(drivers('docker', 'process'))(
    'from a fresh copy, on the %s driver: cold, warm, and cold again',
    async (driver) => {
      // The packages are installed once: where it is not docker's turn they are there already.
      const copy = freshCopy({ installed: driver !== 'docker' });
      const platform = new TestPlatform({ driver, root: copy }, await freePort());
      onTestFinished(async () => {
        await platform.dispose();
        await removeLeftovers(platform);
        rmSync(copy, { recursive: true, force: true });
      });
      const args = [
        'demo',
        '--home',
        platform.home,
        '--port',
        String(platform.port),
        ...(driver === 'process' ? ['--driver', 'process'] : []),
      ];
      const { code, stdout, stderr } = await platform.fn(args, { timeoutMs: 280_000 });
      const text = stdout + stderr;
      expect([code, text]).toEqual([0, text]);
      for (const word of [/cold/i, /warm/i, /queue/i, /start/i, /init/i, /handler/i, /\b200\b/, /fn down/]) expect(text).toMatch(word);
      // It leaves the platform running, and down ends it.
      const status = await platform.status();
      expect(status.driver).toBe(driver);
      expect(status.functions.length).toBeGreaterThan(0);
      if (driver === 'process') {
        const again: unknown = JSON.parse((await platform.fnOk([...args, '--json'])).stdout);
        const calls = ['cold', 'warm', 'from zero', 'warm'].map((label) => ({ label, status: 200 }));
        expect(again).toMatchObject({ url: `${platform.url}/hello`, calls });
      }
      expect((await platform.down()).code).toBe(0);
      expect(await findLeaks(platform)).toEqual([]);
    },
    300_000,
  );
});
