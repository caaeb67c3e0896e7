/** Records of instances on disk, outside what any instance can see; written by rename. */
import { renameSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InstanceRecord, type InstanceRecords } from '../store/types.ts';

/** In a folder of this host. */
export class FileRecords implements InstanceRecords {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** All records by instance id. One that cannot be read is left out: its instance counts as unrecorded. */
  async load(): Promise<Map<string, InstanceRecord>> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const records = new Map<string, InstanceRecord>();
    for (const name of await readdir(this.#folder)) {
      const id = name.endsWith('.json') ? name.slice(0, -'.json'.length) : null;
      if (id === null) continue;
      const record = parseRecord(await readFile(join(this.#folder, name), 'utf8'));
      if (record?.id === id) records.set(id, record);
    }
    return records;
  }

  /** At once: somebody waits for the instance, two turns of the thread pool take many times what the calls do, and it is a run folder. */
  async write(record: InstanceRecord): Promise<void> {
    const file = join(this.#folder, `${record.id}.json`);
    writeFileSync(`${file}.tmp`, JSON.stringify(record), { mode: 0o600 });
    renameSync(`${file}.tmp`, file);
  }

  /** Where the log reader is in what the instance writes, in the reader's own words. */
  async writeLogPosition(id: string, position: string): Promise<void> {
    const file = join(this.#folder, `${id}.log-position`);
    await writeFile(`${file}.tmp`, position, { mode: 0o600 });
    await rename(`${file}.tmp`, file);
  }

  async logPosition(id: string): Promise<string | null> {
    try {
      return await readFile(join(this.#folder, `${id}.log-position`), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
  }

  /** Removes what is left of instances that are not named. */
  async prune(keep: ReadonlySet<string>): Promise<void> {
    for (const name of await readdir(this.#folder)) {
      const id = name.slice(0, name.indexOf('.'));
      if (!keep.has(id)) await rm(join(this.#folder, name), { force: true });
    }
  }

  async remove(id: string): Promise<void> {
    await Promise.all(
      ['json', 'json.tmp', 'log-position', 'log-position.tmp'].map((ending) => rm(join(this.#folder, `${id}.${ending}`), { force: true })),
    );
  }
}

function parseRecord(text: string): InstanceRecord | null {
  try {
    return InstanceRecord.parse(JSON.parse(text));
  } catch {
    // A record cut off by a crash names an instance that nobody can vouch for; it will be destroyed.
    return null;
  }
}
