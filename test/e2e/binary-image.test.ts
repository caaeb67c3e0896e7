/** Programs and images that listen on $PORT, in containers: deployed, served, streamed to, crashed, refused. */
import { copyFileSync, chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FunctionView } from '#contract/function.ts';
import { goProgram } from '../helpers/go-program.ts';
import { debianPackage } from '../helpers/debian-package.ts';
import { startRegistry, type Registry } from '../helpers/registry.ts';
import { ROOT } from '../helpers/root.ts';
import { BUILD_TIMEOUT_MS, buildRuntimes } from '../helpers/runtime-images.ts';
import { usePlatform } from '../helpers/suite.ts';
import { waitFor } from '../helpers/wait.ts';

const folder = mkdtempSync(join(tmpdir(), 'fn-images-'));
/** Tags that the suite gave in the engine. */
const tags: string[] = [];
let program = '';

/** A folder with an executable in it. */
async function programFolder(name: string): Promise<string> {
  const path = join(folder, name);
  await execa('mkdir', ['-p', path]);
  copyFileSync(program, join(path, 'server'));
  chmodSync(join(path, 'server'), 0o755);
  return path;
}

async function dockerfile(name: string, text: string): Promise<string> {
  const path = await programFolder(name);
  writeFileSync(join(path, 'Dockerfile'), text);
  return join(path, 'Dockerfile');
}

const SCRATCH =
  'FROM scratch\nCOPY server /app/server\nENV FLAVOUR=plain\nWORKDIR /app\nEXPOSE 9000\nVOLUME /data\nENTRYPOINT ["/app/server"]\n';

describe('programs and images (docker)', () => {
  let registry: Registry;
  beforeAll(async () => {
    await buildRuntimes('binary');
    program = await goProgram(join(ROOT, 'test/e2e/fixtures/program/main.go'));
    registry = await startRegistry(folder);
  }, BUILD_TIMEOUT_MS);
  afterAll(async () => {
    await registry.close();
    for (const tag of tags) await execa('docker', ['image', 'rm', '--force', tag], { reject: false });
    rmSync(folder, { recursive: true, force: true });
  });
  // An hour, where nobody says so: the last test waits for it.
  const platform = usePlatform({ driver: 'docker', env: { FN_IMAGE_KEEP_SECONDS: '15', FN_STREAM_DRAIN_MS: '1000' } });
  const view = async (name: string) =>
    FunctionView.parse(JSON.parse((await platform().fnOk(['describe', name, '--json'])).stdout)).revision;

  describe('a program', () => {
    it('is told by its first bytes, and served with its files, its environment and its log', async () => {
      const path = await programFolder('plain');
      writeFileSync(join(path, 'page.txt'), 'a page');
      await platform().fnOk(['deploy', path, '--name', 'program', '--env', 'WHO=you', '--asset', '*.txt']);
      expect(await view('program')).toMatchObject({ form: 'port', entry: 'server', settings: { runtime: 'binary', concurrency: 50 } });
      expect((await platform().call('/program/a/b')).text).toBe('hello /a/b');
      const env = (await platform().call('/program/env')).text;
      expect(env).toMatch(/^WHO=you$/m);
      expect(env).toMatch(/^cwd=\/fn\/code$/m);
      expect(env).toMatch(/^uid=65532$/m);
      expect(env).not.toMatch(/FN_NONCE|FN_SOCKET|FN_INSTANCE/);
      expect((await platform().call('/program/file?name=page.txt')).text).toBe('a page');
      expect((await platform().call('/program/write?name=page.txt')).text).toMatch(/read-only|permission denied/);
      const body = Buffer.alloc(3 * 1024 * 1024, 'x');
      expect((await platform().call('/program/echo', { method: 'POST', body })).text.length).toBe(body.length);
      expect((await platform().call('/program/stream')).text).toBe('0\n1\n2\n');
      await waitFor('its log', async () => (await platform().fnOk(['logs', 'program'])).stdout.includes('at /a/b'));
    });

    it('that crashes, or takes more memory than it has, ends its instance; the next request works', async () => {
      expect((await platform().call('/program/crash')).json()).toMatchObject({ code: 'function-crashed' });
      expect((await platform().call('/program/hog')).json()).toMatchObject({ code: 'function-oom' });
      expect((await platform().call('/program/again')).text).toBe('hello /again');
    });

    it('that ends before it listens is refused with its own last words', async () => {
      const refused = await platform().fn(['deploy', await programFolder('fails'), '--name', 'fails', '--env', 'FAIL=1']);
      expect(refused.code).toBe(1);
      expect(refused.stderr).toMatch(/the program ended \(exit code 3\) before it listened[^]*no database/);
    });

    it('that is none for Linux is refused before anything is sent', async () => {
      const script = join(folder, 'script');
      writeFileSync(script, '#!/bin/sh\necho hi\n');
      const refused = await platform().fn(['deploy', script, '--runtime', 'binary', '--name', 'script']);
      expect([refused.code, refused.stderr]).toEqual([2, expect.stringMatching(/not a source file|is a script/)]);
    });
  });

  describe('an image', () => {
    it('of a Dockerfile is built, pinned, and run with the floor of any function', async () => {
      const file = await dockerfile('scratch', SCRATCH);
      await platform().fnOk(['deploy', file, '--name', 'scratch', '--env', 'WHO=you']);
      expect(await view('scratch')).toMatchObject({
        form: 'port',
        image: expect.stringMatching(/^sha256:/) as string,
        settings: { runtime: 'image' },
      });
      const env = (await platform().call('/scratch/env')).text;
      for (const line of ['FLAVOUR=plain', 'WHO=you', 'PORT=9000', 'cwd=/app', 'uid=65532']) expect(env.split('\n')).toContain(line);
      expect(env).not.toMatch(/FN_NONCE|FN_SOCKET|FN_INSTANCE/);
      expect((await platform().call('/scratch/write?name=/app/x')).text).toContain('read-only');
      expect((await platform().call('/scratch/write?name=/data/x')).text).toBe('<nil>');
      expect((await platform().call('/scratch/crash')).json()).toMatchObject({ code: 'function-crashed' });
      expect((await platform().call('/scratch/')).text).toBe('hello /');
    });

    it('as an archive is taken without the names that it gives itself', async () => {
      const context = await dockerfile('archive', SCRATCH.replace('plain', 'packed'));
      const tag = 'fn/node:evil';
      tags.push(tag);
      await execa('docker', ['build', '-q', '-t', tag, join(context, '..')]);
      const { stdout: id } = await execa('docker', ['image', 'inspect', '--format', '{{.Id}}', tag]);
      const tar = join(folder, 'packed.tar');
      await execa('docker', ['save', '-o', tar, tag]);
      await execa('docker', ['image', 'rm', '--force', tag]);
      await platform().fnOk(['deploy', tar]);
      tags.push(id);
      expect(await view('packed')).toMatchObject({ image: id });
      expect((await platform().call('/packed/env')).text).toContain('FLAVOUR=packed');
      expect((await execa('docker', ['image', 'inspect', tag], { reject: false })).exitCode).not.toBe(0);
    });

    it('of a registry is pulled; one with a shell form and busybox works too', async () => {
      const busybox = await debianPackage('busybox-static');
      const path = await programFolder('busybox');
      copyFileSync(join(busybox, 'bin/busybox'), join(path, 'busybox'));
      writeFileSync(join(path, 'index.html'), 'from busybox');
      writeFileSync(
        join(path, 'Dockerfile'),
        'FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nCOPY index.html /www/index.html\nCMD exec /bin/busybox httpd -f -p 127.0.0.1:$PORT -h /www\n',
      );
      const reference = `${registry.address}/web:1`;
      tags.push(reference);
      await execa('docker', ['build', '-q', '-t', reference, path]);
      await execa('docker', ['push', '-q', reference]);
      await execa('docker', ['image', 'rm', '--force', reference]);
      await platform().fnOk(['deploy', '--image', reference, '--name', 'web']);
      expect((await platform().call('/web/index.html')).text).toBe('from busybox');
      // The pull gives no name to anything: what the engine's owner calls so, they have named themselves.
      expect((await execa('docker', ['image', 'inspect', reference], { reject: false })).exitCode).not.toBe(0);
    });

    it('that is not to be had is refused with what the registry says', async () => {
      const refused = await platform().fn(['deploy', '--image', `${registry.address}/nothing:1`, '--name', 'nothing']);
      expect(refused.code).toBe(1);
      expect(refused.stderr).toMatch(/nothing:1 cannot be had/);
    });

    it('whose WORKDIR leads to descriptors of whoever starts it is entered by its own program alone, which has none', async () => {
      const path = await programFolder('link');
      symlinkSync('/proc/self/fd/7', join(path, 'w'));
      await execa('tar', ['-C', path, '-cf', join(folder, 'link.tar'), '.']);
      const changes = ['WORKDIR /w', 'ENTRYPOINT ["/server"]'].flatMap((change) => ['--change', change]);
      const { stdout: id } = await execa('docker', ['import', ...changes, join(folder, 'link.tar')]);
      tags.push(id);
      const refused = await platform().fn(['deploy', '--image', id, '--name', 'link']);
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain('WORKDIR /w cannot be entered');
    });

    it('goes when no revision is made of it any more, unless somebody else has a name for it', async () => {
      const namesOf = async (id: string) => {
        const { stdout, exitCode } = await execa('docker', ['image', 'inspect', '--format', '{{join .RepoTags " "}}', id], {
          reject: false,
        });
        return exitCode === 0 ? stdout.split(' ').filter(Boolean) : null;
      };
      const context = await dockerfile('own', SCRATCH.replace('plain', 'own'));
      const own = 'fn-test-own:1';
      tags.push(own);
      await execa('docker', ['build', '-q', '-t', own, join(context, '..')]);
      await platform().fnOk(['deploy', '--image', own, '--name', 'own']);
      const images = new Map<string, string>();
      for (const name of ['scratch', 'web', 'own']) images.set(name, (await view(name)).image ?? expect.fail(`${name} has no image`));
      tags.push(...images.values());
      const idOf = (name: string) => images.get(name) ?? '';
      for (const name of ['scratch', 'web']) expect(await namesOf(idOf(name))).toEqual([expect.stringMatching(/^fn-uploads:/)]);
      for (const name of images.keys()) await platform().fnOk(['delete', name, '-y']);
      for (const name of ['scratch', 'web']) {
        await waitFor(`the image of ${name} is gone`, async () => (await namesOf(idOf(name))) === null, {
          timeoutMs: 120_000,
          everyMs: 500,
        });
      }
      await waitFor('only its own name is left', async () => (await namesOf(idOf('own')))?.join() === own, {
        timeoutMs: 120_000,
        everyMs: 500,
      });
      // One that a revision is made of has stayed all the while.
      expect((await platform().call('/packed/')).text).toBe('hello /');
      expect(await namesOf((await view('packed')).image ?? '')).toHaveLength(1);
    });
  });
});
