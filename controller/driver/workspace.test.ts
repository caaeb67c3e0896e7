import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Workspace } from './workspace.ts';

let root: string;
let workspace: Workspace;
let bundle: string;
const ID = 'i-abcdefghijkl';

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'fn-workspace-'));
  bundle = join(root, 'bundle');
  mkdirSync(join(bundle, 'lib'), { recursive: true });
  writeFileSync(join(bundle, 'index.mjs'), 'code', { mode: 0o644 });
  writeFileSync(join(bundle, 'lib', 'data'), 'data', { mode: 0o644 });
  workspace = new Workspace({ runDir: join(root, 'run'), instances: join(root, 'run', 'instances') }, { cacheBytes: 6 });
  await workspace.start();
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const mode = (path: string) => statSync(path).mode & 0o777;

describe('Workspace', () => {
  it('lets nobody near the socket before it is sealed, and nobody near the code at all', async () => {
    const umask = process.umask(0o077);
    try {
      await workspace.prepare(ID);
    } finally {
      process.umask(umask);
    }
    const folders = () => [workspace.dir(ID), workspace.sockDir(ID), dirname(workspace.codeDir(ID)), workspace.codeDir(ID)].map(mode);
    expect(folders()).toEqual([0o700, 0o777, 0o700, 0o755]);
    await workspace.seal(ID);
    expect(folders()).toEqual([0o711, 0o711, 0o700, 0o755]);
    await expect(workspace.prepare(ID)).rejects.toThrow('EEXIST');
  });

  // Only root runs instances under a uid of their own.
  it.runIf(process.getuid?.() === 0)(
    'gives a process of another user a way to its own folders, and the socket’s only until sealed',
    async () => {
      const uid = 65_532;
      workspace = new Workspace({ runDir: join(root, 'run'), instances: join(root, 'run', 'instances') }, { processUid: uid });
      await workspace.prepare(ID);
      const owners = (path: string) => [statSync(path).uid, statSync(path).gid, mode(path)];
      expect(owners(workspace.dir(ID))).toEqual([0, uid, 0o710]);
      expect(owners(workspace.sockDir(ID))).toEqual([uid, uid, 0o700]);
      expect(owners(dirname(workspace.codeDir(ID)))).toEqual([0, uid, 0o710]);
      await workspace.seal(ID);
      expect(owners(workspace.dir(ID))).toEqual([0, uid, 0o711]);
      expect(owners(workspace.sockDir(ID))).toEqual([0, uid, 0o711]);
    },
  );

  it('links a bundle that anybody may read', async () => {
    await workspace.prepare(ID);
    await workspace.place(ID, bundle);
    expect(statSync(join(workspace.codeDir(ID), 'index.mjs')).ino).toBe(statSync(join(bundle, 'index.mjs')).ino);
    expect(readFileSync(join(workspace.codeDir(ID), 'lib', 'data'), 'utf8')).toBe('data');
  });

  it('copies one that only its owner may, once, and links the copy', async () => {
    chmodSync(join(bundle, 'index.mjs'), 0o600);
    const ids = [ID, 'i-000000000000'];
    for (const id of ids) await workspace.prepare(id);
    await Promise.all(ids.map((id) => workspace.place(id, bundle)));
    const [one, two] = ids.map((id) => statSync(join(workspace.codeDir(id), 'index.mjs')));
    expect(one!.ino).toBe(two!.ino);
    expect(one!.ino).not.toBe(statSync(join(bundle, 'index.mjs')).ino);
    expect(one!.mode & 0o777).toBe(0o644);
    expect(mode(join(root, 'run', 'code'))).toBe(0o700);
  });

  it('keeps no more copies than it has room for', async () => {
    const bundles = ['one', 'two', 'three'].map((name) => {
      const dir = join(root, name);
      mkdirSync(dir);
      writeFileSync(join(dir, 'index.mjs'), name, { mode: 0o600 });
      return dir;
    });
    for (const [index, dir] of bundles.entries()) {
      const id = `i-00000000000${index}`;
      await workspace.prepare(id);
      await workspace.place(id, dir);
      expect(readFileSync(join(workspace.codeDir(id), 'index.mjs'), 'utf8')).toBe(['one', 'two', 'three'][index]);
    }
    await expect.poll(() => readdirSync(join(root, 'run', 'code'))).toHaveLength(1);
    // What was dropped is copied anew.
    await workspace.prepare(ID);
    await workspace.place(ID, bundles[0]!);
    expect(readFileSync(join(workspace.codeDir(ID), 'index.mjs'), 'utf8')).toBe('one');
  });

  it('copies anew what another controller, which began over, has thrown away', async () => {
    chmodSync(join(bundle, 'index.mjs'), 0o600);
    await workspace.prepare(ID);
    await workspace.place(ID, bundle);
    await new Workspace({ runDir: join(root, 'run'), instances: join(root, 'run', 'instances') }).start();
    await workspace.prepare('i-000000000000');
    await workspace.place('i-000000000000', bundle);
    expect(readFileSync(join(workspace.codeDir('i-000000000000'), 'lib', 'data'), 'utf8')).toBe('data');
  });

  it('links a bundle of many files, too', async () => {
    for (let index = 0; index < 100; index += 1) writeFileSync(join(bundle, `file-${index}`), String(index));
    await workspace.prepare(ID);
    await workspace.place(ID, bundle);
    expect(readdirSync(workspace.codeDir(ID))).toHaveLength(102);
    expect(statSync(join(workspace.codeDir(ID), 'file-99')).ino).toBe(statSync(join(bundle, 'file-99')).ino);
  });

  it('refuses a bundle that holds a link', async () => {
    symlinkSync('/etc/passwd', join(bundle, 'lib', 'passwd'));
    await workspace.prepare(ID);
    await expect(workspace.place(ID, bundle)).rejects.toThrow('neither a file nor a folder');
    expect(readdirSync(workspace.codeDir(ID))).toEqual([]);
  });

  it('removes what it made, and no folder that others use', async () => {
    await workspace.prepare(ID);
    await workspace.place(ID, bundle);
    writeFileSync(join(root, 'run', 'theirs'), '');
    await workspace.remove(ID);
    expect(await workspace.ids()).toEqual([]);
    await workspace.destroy();
    expect(readdirSync(join(root, 'run'))).toEqual(['theirs']);
    rmSync(join(root, 'run', 'theirs'));
    await workspace.destroy();
    expect(existsSync(join(root, 'run'))).toBe(false);
    expect(lstatSync(join(bundle, 'index.mjs')).nlink).toBe(1);
  });

  it('keeps notes', async () => {
    await workspace.prepare(ID);
    expect(await workspace.readNote(ID, 'x')).toBeNull();
    await workspace.writeNote(ID, 'x', { a: 1 });
    expect(await workspace.readNote(ID, 'x')).toEqual({ a: 1 });
    workspace.writeNoteSync(ID, 'x', { a: 2 });
    expect(await workspace.readNote(ID, 'x')).toEqual({ a: 2 });
    expect(mode(join(workspace.dir(ID), 'x.json'))).toBe(0o600);
  });
});
