import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { extract } from 'tar-stream';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Layer, type LayerEntry, writeLayer } from './tar.ts';

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'fn-tar-'));
  onTestFinished(() => rmSync(path, { recursive: true }));
  return path;
}

async function entries(path: string): Promise<[string, string, number][]> {
  const reader = extract();
  reader.end(readFileSync(path));
  const found: [string, string, number][] = [];
  for await (const entry of reader) {
    const { name, type, mode, uid, gid, mtime } = entry.header;
    expect([uid, gid, mtime?.getTime()]).toEqual([0, 0, 0]);
    found.push([name, String(type), mode ?? 0]);
    entry.resume();
  }
  return found;
}

describe('a layer', () => {
  it('is the same bytes whatever the order it was made in, with its folders', async () => {
    const work = folder();
    const source = join(work, 'source');
    writeFileSync(source, 'x'.repeat(100_000), { mode: 0o600 });
    const parts: [string, LayerEntry][] = [
      ['b/file', { type: 'file', mode: 0o644, content: Buffer.from('b') }],
      ['a/deep/big', { type: 'file', mode: 0o755, content: { path: source, size: 100_000 } }],
      ['tmp', { type: 'directory', mode: 0o1777 }],
      ['a/link', { type: 'symlink', target: 'deep/big' }],
      ['é', { type: 'file', mode: 0o644, content: Buffer.from('') }],
    ];
    const forward: Layer = new Map(parts);
    const backward: Layer = new Map(parts.toReversed());
    const [one, two] = [await writeLayer(forward, join(work, 'one')), await writeLayer(backward, join(work, 'two'))];
    expect(one).toEqual(two);
    expect(readFileSync(join(work, 'one')).length).toBe(one.bytes);
    expect(await entries(join(work, 'one'))).toEqual([
      ['a/', 'directory', 0o755],
      ['a/deep/', 'directory', 0o755],
      ['a/deep/big', 'file', 0o755],
      ['a/link', 'symlink', 0o777],
      ['b/', 'directory', 0o755],
      ['b/file', 'file', 0o644],
      ['tmp/', 'directory', 0o1777],
      ['é', 'file', 0o644],
    ]);
  });

  it('leaves nothing behind when a file cannot be read', async () => {
    const work = folder();
    const layer: Layer = new Map([['gone', { type: 'file', mode: 0o644, content: { path: join(work, 'not-there'), size: 10 } }]]);
    await expect(writeLayer(layer, join(work, 'layer.tar'))).rejects.toThrow(/ENOENT/);
    expect(readdirSync(work)).toEqual([]);
  });
});
