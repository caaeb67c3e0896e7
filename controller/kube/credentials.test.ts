import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { describe, expect, it, onTestFinished } from 'vitest';
import { loadCredentials, serviceAccount } from './credentials.ts';

function folderWith(files: Record<string, string>): string {
  const folder = mkdtempSync(join(tmpdir(), 'fn-kube-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}

const config = (user: Record<string, unknown>, cluster: Record<string, unknown> = {}) =>
  stringify({
    'current-context': 'c',
    clusters: [{ name: 'k', cluster: { server: 'https://10.0.0.1:6443/', 'certificate-authority': 'ca.pem', ...cluster } }],
    users: [{ name: 'u', user }],
    contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
  });

describe('the service account of a pod', () => {
  it('is read again when it was refused: its token rotates', async () => {
    const folder = folderWith({ token: 'one\n', 'ca.crt': 'ca' });
    const account = serviceAccount('fd00::1', '443', folder);
    expect(account.server).toBe('https://[fd00::1]:443');
    expect((await account.current()).headers).toEqual({ authorization: 'Bearer one' });
    writeFileSync(join(folder, 'token'), 'two');
    expect((await account.current()).headers).toEqual({ authorization: 'Bearer one' });
    account.refused();
    expect(await account.current()).toEqual({ tls: { ca: Buffer.from('ca') }, headers: { authorization: 'Bearer two' } });
  });
});

describe('a kubeconfig', () => {
  const load = async (user: Record<string, unknown>, cluster?: Record<string, unknown>, files: Record<string, string> = {}) => {
    const folder = folderWith({ config: config(user, cluster), 'ca.pem': 'the ca', ...files });
    return loadCredentials(join(folder, 'config'), {});
  };

  it('has files beside it, or their contents', async () => {
    const data = Buffer.from('the key').toString('base64');
    const credentials = await load({ 'client-certificate': 'cert.pem', 'client-key-data': data }, {}, { 'cert.pem': 'the certificate' });
    expect(credentials.server).toBe('https://10.0.0.1:6443');
    const { tls, headers } = await credentials.current();
    expect([tls.ca, tls.cert, tls.key].map(String)).toEqual(['the ca', 'the certificate', 'the key']);
    expect(headers).toEqual({});
  });

  it('may name a token, whom to be, and how the server is called', async () => {
    const credentials = await load({ token: 'secret', as: 'somebody' }, { 'tls-server-name': 'kubernetes', 'proxy-url': 'http://proxy:1' });
    expect(credentials.proxy).toBe('http://proxy:1');
    const { tls, headers } = await credentials.current();
    expect(tls.servername).toBe('kubernetes');
    expect(headers).toEqual({ authorization: 'Bearer secret', 'impersonate-user': 'somebody' });
  });

  it('may name a program that is asked, once until it expires', async () => {
    const status = { token: 'made', expirationTimestamp: '2999-01-01T00:00:00Z' };
    const script = `require('node:fs').appendFileSync(process.argv[1], 'x'); console.log(JSON.stringify({ status: ${JSON.stringify(status)} }))`;
    const folder = folderWith({ asked: '', 'ca.pem': 'ca' });
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: process.execPath, args: ['-e', script, join(folder, 'asked')] };
    writeFileSync(join(folder, 'config'), config({ exec }));
    const credentials = await loadCredentials(join(folder, 'config'), {});
    for (let time = 0; time < 2; time += 1) expect((await credentials.current()).headers).toEqual({ authorization: 'Bearer made' });
    expect(readFileSync(join(folder, 'asked'), 'utf8')).toBe('x');
    credentials.refused();
    await credentials.current();
    expect(readFileSync(join(folder, 'asked'), 'utf8')).toBe('xx');
  });

  it('says what is missing in it, or that there is none', async () => {
    const folder = folderWith({ empty: stringify({ clusters: [] }), other: stringify({ 'current-context': 'gone' }) });
    await expect(loadCredentials(join(folder, 'empty'), {})).rejects.toThrow(/no current-context/);
    await expect(loadCredentials(join(folder, 'other'), {})).rejects.toThrow(/no context gone/);
    await expect(loadCredentials(null, { KUBECONFIG: join(folder, 'none') })).rejects.toThrow(/There is no kubeconfig at .*set KUBECONFIG/);
    const gone = await load({ 'auth-provider': { name: 'gcp' } });
    await expect(gone.current()).rejects.toThrow(/use its exec plugin/);
  });
});
