/** The code cache of the node runtime: made once, used where it fits, and never in the way. */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { CodeIndex, HEADERS, RUNTIME_PATHS } from '#contract/runtime.ts';
import { NONCE, startShim, type Shim } from './runtime-harness.ts';
import { NODE, overTcp } from './runtime-table.ts';

const SOURCE = `${Array.from({ length: 500 }, (_, n) => `export const f${n} = (function (x) { return x + ${n}; });`).join('\n')}
export default { fetch: () => new Response('sum ' + f499(1)) };\n`;
const nonce = { [HEADERS.nonce]: NONCE };

let folder: string;
const tree = (at: string) => readdirSync(at, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());

/** Starts an instance with this code; answers what it says of its cache. */
async function start(code: string, runtime = NODE): Promise<{ shim: Shim; codeCache: string | undefined }> {
  const shim = await startShim(runtime, { TMPDIR: mkdtempSync(join(folder, 'tmp-')) });
  const { codeCache } = await shim.become('index.mjs', { code, codeCache: true });
  expect((await shim.call('GET', '/', { headers: { [HEADERS.instance]: 'i-abcdefghijkl' } })).text).toBe('sum 500');
  return { shim, codeCache };
}

const fetchCache = (shim: Shim, headers = nonce) =>
  shim.call('GET', RUNTIME_PATHS.codeCache, { headers: { ...headers, [HEADERS.instance]: 'i-abcdefghijkl' } });

/** Puts a cache beside the code, as the platform does; `change` makes of each file what lies there. */
function place(code: string, body: Buffer, change: (data: Buffer) => Buffer = (data) => data): void {
  const end = body.indexOf(10);
  let at = end + 1;
  for (const { path, size } of CodeIndex.parse(JSON.parse(body.toString('utf8', 0, end))).files) {
    const file = join(code, '.fn/code-cache', path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, change(body.subarray(at, at + size)));
    at += size;
  }
}

describe.each([NODE, overTcp(NODE)])('code cache of $name', (runtime) => {
  let code: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'fn-cc-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    code = join(folder, 'code');
    mkdirSync(code);
    writeFileSync(join(code, 'index.mjs'), SOURCE);
  });

  it('is made by the first instance, handed over once, to who has the nonce, and leaves nothing in its /tmp', async () => {
    const { shim, codeCache } = await start(code, runtime);
    expect(codeCache).toBe('made');
    expect((await fetchCache(shim, { [HEADERS.nonce]: 'wrong' })).status).toBe(403);
    const given = await fetchCache(shim);
    expect(given.status).toBe(200);
    expect(given.body.length).toBeGreaterThan(1_000);
    expect((await fetchCache(shim)).status).toBe(404);
    expect(tree(folder).filter(({ parentPath }) => parentPath.includes('.fn-code-cache-'))).toEqual([]);
  });

  it('is not made where nobody asked for it', async () => {
    const shim = await startShim(runtime);
    expect(await shim.become('index.mjs', { code })).not.toHaveProperty('codeCache');
    expect((await fetchCache(shim)).status).toBe(404);
  });
});

describe('a code cache beside the code', () => {
  let code: string;
  let made: Buffer;
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'fn-cc-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    code = join(folder, 'code');
    mkdirSync(code);
    writeFileSync(join(code, 'index.mjs'), SOURCE);
    made = (await fetchCache((await start(code)).shim)).body;
  });

  it('is used, as it is', async () => {
    place(code, made);
    const { shim, codeCache } = await start(code);
    expect(codeCache).toBe('hit');
    expect((await fetchCache(shim)).status).toBe(404);
  });

  it.each([
    ['cut short', (data: Buffer) => data.subarray(0, data.length / 2)],
    ['empty', () => Buffer.alloc(0)],
    ['damaged in the middle', (data: Buffer) => Buffer.concat([data.subarray(0, data.length - 500), Buffer.alloc(500, 0xff)])],
    ['of noise', (data: Buffer) => Buffer.alloc(data.length, 0x5a)],
  ])('that is %s is refused, the function works, and there is a new one', async (_what, change) => {
    place(code, made, change);
    expect((await start(code)).codeCache).toBe('made');
  });

  it('of other code, or of another version, is refused', async () => {
    place(code, made);
    writeFileSync(join(code, 'index.mjs'), SOURCE.replaceAll('x + 7;', 'x + 70;'));
    expect((await start(code)).codeCache).toBe('made');
    const other = join(folder, 'other');
    mkdirSync(other);
    writeFileSync(join(other, 'index.mjs'), SOURCE);
    const [version = ''] = readdirSync(join(code, '.fn/code-cache'));
    cpSync(join(code, '.fn/code-cache', version), join(other, '.fn/code-cache', version.replace(/^v\d+/, 'v1')), { recursive: true });
    expect((await start(other)).codeCache).toBe('made');
  });
});
