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
