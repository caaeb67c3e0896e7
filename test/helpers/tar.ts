/** Bundles for tests, good and bad, byte by byte. */
import { createHash } from 'node:crypto';

export interface RawEntry {
  name: string | Buffer;
  content?: string | Buffer;
  /** One character of the tar header: '0' file, '5' folder, '2' symlink … */
  type?: string;
  mode?: number;
  link?: string;
  /** Declared instead of the content's own. */
  size?: number;
}

/** A tar header as POSIX writes it, without the courtesy of a library that would refuse to write a bad one. */
export function header({ name, content = '', type = '0', mode = 0o644, link = '', size = Buffer.byteLength(content) }: RawEntry): Buffer {
  const block = Buffer.alloc(512);
  Buffer.from(name).copy(block, 0, 0, 100);
  block.write(`${mode.toString(8).padStart(7, '0')}\0`, 100);
  block.write(`${'0'.repeat(7)}\0${'0'.repeat(7)}\0`, 108);
  block.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
  block.write(`${'0'.repeat(11)}\0`, 136);
  block.write('        ', 148);
  block.write(type, 156);
  block.write(link, 157);
  block.write('ustar\u000000', 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

export function tar(...entries: RawEntry[]): Buffer {
  const parts = entries.flatMap((entry) => {
    const content = Buffer.from(entry.content ?? '');
    return [header(entry), content, Buffer.alloc((512 - (content.length % 512)) % 512)];
  });
  return Buffer.concat([...parts, Buffer.alloc(1_024)]);
}

/** A pax header before the entry that it is about. */
export function pax(records: Record<string, string>): RawEntry {
  const lines = Object.entries(records).map(([key, value]) => {
    const rest = ` ${key}=${value}\n`;
    let length = Buffer.byteLength(rest) + 1;
    while (Buffer.byteLength(`${length}${rest}`) !== length) length++;
    return `${length}${rest}`;
  });
  return { name: 'PaxHeader', type: 'x', content: lines.join('') };
}

export const digestOf = (data: Buffer): string => `sha256:${createHash('sha256').update(data).digest('hex')}`;

export async function* pieces(data: Buffer, size = 65_536): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < data.length; from += size) yield data.subarray(from, from + size);
}
