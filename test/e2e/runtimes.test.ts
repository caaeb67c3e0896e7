/** Images made here, without a registry: the same inputs give the same digest, and nothing is in them that need not be. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ROOT } from '../helpers/root.ts';

const builder = (...flags: string[]) =>
  execa(process.execPath, [join(ROOT, 'runtime-images', 'build.ts'), '--json', ...flags], { cwd: ROOT, timeout: 280_000 });
const build = async (...flags: string[]): Promise<unknown> => JSON.parse((await builder(...flags)).stdout);

/** The tag of a runtime's image in whatever the builder prints. */
function tagOf(built: unknown, runtime: string): string {
  const tag = new RegExp(`fn/${runtime}:[A-Za-z0-9._-]+`).exec(JSON.stringify(built))?.[0];
  if (tag === undefined) throw new Error(`no image fn/${runtime} in ${JSON.stringify(built)}`);
  return tag;
}
const nodeTag = (built: unknown): string => tagOf(built, 'node');

const inspect = async (image: string) => {
  const { stdout } = await execa('docker', ['image', 'inspect', image]);
  return (JSON.parse(stdout) as { Id: string; Size: number; Config: { Labels: Record<string, string>; User: string } }[])[0]!;
};

describe('runtime images', () => {
  it('are built only when their inputs change', async () => {
    const tag = nodeTag(await build());
    const again = await builder();
    expect(nodeTag(JSON.parse(again.stdout))).toBe(tag);
    // Where it does build it says so: see below.
    expect(again.stderr).not.toMatch(/ built | building /);
  });

  it.each(['node', 'python'])(
    'are reproducible: %s built again from nothing has the same digest',
    async (runtime) => {
      const tag = tagOf(await build('--runtime', runtime), runtime);
      const before = await inspect(tag);
      const again = await builder('--runtime', runtime, '--force');
      expect(again.stderr).toMatch(/ building the image [^]* built in /);
      expect(tagOf(JSON.parse(again.stdout), runtime)).toBe(tag);
      expect((await inspect(tag)).Id).toBe(before.Id);
    },
    300_000,
  );

  it('carry a version and a digest as labels, and a user that is not root', async () => {
    const { Config, Size } = await inspect(nodeTag(await build()));
    const labels = JSON.stringify(Config.Labels);
    expect(labels).toMatch(/version/);
    expect(labels).toMatch(/digest/);
    expect(Size).toBeLessThan(260 * 1024 * 1024);
  });

  it.each(['node', 'python'])(
    '%s holds no shell, no package manager, no setuid file; certificates and time zones are there',
    async (runtime) => {
      const tag = tagOf(await build('--runtime', runtime), runtime);
      const folder = mkdtempSync(join(tmpdir(), 'fn-image-'));
      const { stdout: container } = await execa('docker', ['create', '--label', 'fn.test=runtimes', tag, '/none']);
      onTestFinished(async () => {
        await execa('docker', ['rm', '-f', container]);
        rmSync(folder, { recursive: true, force: true });
      });
      const { stdout: list } = await execa('sh', ['-c', `docker export ${container} | tar -tvf -`], { maxBuffer: 64 * 1024 * 1024 });
      const entries = list.split('\n');
      const paths = entries.map((entry) => entry.replace(/^(?:\S+\s+){5}/, '').replace(/ -> .*/, ''));
      const others = runtime === 'python' ? ['node'] : ['python3', 'python'];
      for (const name of [...others, 'sh', 'bash', 'dash', 'busybox', 'apt', 'apt-get', 'dpkg', 'perl', 'npm', 'mount', 'su']) {
        expect(paths.filter((path) => /(?:^|\/)s?bin\//.test(path) && path.endsWith(`/${name}`))).toEqual([]);
      }
      expect(entries.filter((entry) => /^-..[sS]|^-.....[sS]/.test(entry))).toEqual([]);
      expect(paths).toContain('etc/ssl/certs/ca-certificates.crt');
      expect(entries.find((entry) => entry.endsWith(' etc/ssl/certs/ca-certificates.crt'))).toMatch(/\s\d{6,}\s/);
      expect(paths).toContain('usr/share/zoneinfo/Europe/Berlin');
      expect(entries.find((entry) => /\stmp\/$/.test(entry))).toMatch(/^drwxrwxrwt/);
    },
  );

  it('fn runtimes build says what there is', async () => {
    const { stdout, exitCode } = await execa(join(ROOT, 'fn'), ['runtimes', 'build', '--json'], { cwd: ROOT, reject: false });
    expect(exitCode).toBe(0);
    expect(nodeTag(JSON.parse(stdout))).toMatch(/^fn\/node:/);
  });
});
