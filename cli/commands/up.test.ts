import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { runCli, temporaryFolder } from '../../test/helpers/cli.ts';

describe('fn up for TLS', () => {
  const home = () => temporaryFolder(onTestFinished);

  it.each([
    [['--tls-listen', '127.0.0.1:8443'], {}, /--tls-listen needs --tls-certs DIR/],
    [['--tls-certs', '.'], {}, /--tls-certs needs --tls-listen HOST:PORT/],
    [[], { FN_TLS_LISTEN: '127.0.0.1:8443' }, /--tls-listen needs --tls-certs DIR/],
    [['--tls-listen', '8443', '--tls-certs', '.'], {}, /"8443" is not HOST:PORT/],
    [['--tls-certs', '.'], { FN_TLS_LISTEN: 'nonsense' }, /"nonsense" is not HOST:PORT/],
    [['--tls-listen', '127.0.0.1:99999', '--tls-certs', '.'], {}, /99999 is not a port/],
    [['--tls-listen', '127.0.0.1:0', '--tls-certs', './none'], {}, /\.\/none is not a folder/],
  ])('%j with %j is refused as wrong usage, and starts nothing', async (args, env, message) => {
    const folder = home();
    const { code, stderr } = await runCli(['up', '--detach', '--home', folder, ...args], { env: { ...env, FN_HOME: folder }, cwd: folder });
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
  });

  it('a file is no folder', async () => {
    const folder = home();
    writeFileSync(join(folder, 'cert.pem'), '');
    const run = await runCli(['up', '--detach', '--home', folder, '--tls-listen', '[::1]:0', '--tls-certs', 'cert.pem'], { cwd: folder });
    expect([run.code, run.stderr]).toEqual([2, expect.stringMatching(/cert\.pem is not a folder/)]);
  });
});

describe('fn up with a store', () => {
  it.each<[string[], Record<string, string>, RegExp]>([
    [['--store', 'redis://:hunter2@127.0.0.1:1'], {}, /a password on the command line can be read by every user .* FN_STORE/],
    [['--store', 'postgres://h'], {}, /a store is sqlite, redis:/],
    [[], { FN_STORE: 'redis://:hunter2@h/x' }, /FN_STORE: what follows the host .* redis:\/\/h\/0/],
    [['--gateways', '0'], {}, /--gateways/],
    [['--controllers', '9'], {}, /--controllers/],
  ])('%j with %j is refused as wrong usage, and starts nothing', async (args, env, message) => {
    const folder = temporaryFolder(onTestFinished);
    const { code, stderr } = await runCli(['up', '--detach', '--home', folder, ...args], { env: { ...env, FN_HOME: folder }, cwd: folder });
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
    if (env.FN_STORE !== undefined) expect(stderr).not.toContain('hunter2');
  });

  it('that is not there: says which, why and what to do, in words', async () => {
    const folder = temporaryFolder(onTestFinished);
    const args = ['up', '--detach', '--home', folder, '--driver', 'process', '--port', '0', '--store', 'redis://127.0.0.1:1'];
    const { code, stderr } = await runCli(args, {
      env: { FN_HOME: folder, FN_STORE: 'redis://:hunter2@127.0.0.1:1/0', FN_STORE_WAIT_SECONDS: '0' },
      cwd: folder,
    });
    expect([code, stderr]).toEqual([1, expect.stringMatching(/The store redis:\/\/127\.0\.0\.1:1\/0 failed \(.*start Redis first/)]);
    expect(stderr).not.toMatch(/hunter2|"level"|at async/);
  });
});
