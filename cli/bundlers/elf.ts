/** What the head of an ELF file says: for which machine it is, and what it needs to run. */

const MAGIC = Buffer.from([0x7f, 0x45, 0x4c, 0x46]);
/** e_machine. */
const MACHINES: Readonly<Record<number, NodeJS.Architecture>> = { 0x3e: 'x64', 0xb7: 'arm64' };
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const DT_NEEDED = 1;
const DT_STRTAB = 5;
/** More of either than any real file has. */
const MAX_HEADERS = 1_000;
const MAX_NEEDED = 1_000;
const MAX_NAME_BYTES = 4_096;

export interface Elf {
  /** Null: another one than Node runs on. */
  arch: NodeJS.Architecture | null;
  /** An executable or a shared object, not an object file or a core. */
  runnable: boolean;
  /** Path of the dynamic loader; null where it is linked statically. */
  interpreter: string | null;
  /** Names of the shared libraries that it is linked with. */
  needed: string[];
}

export const isElf = (bytes: Buffer): boolean => bytes.subarray(0, 4).equals(MAGIC);

/** Reads a whole file. Null where it is not a 64-bit little-endian ELF file, or is damaged. */
export function readElf(bytes: Buffer): Elf | null {
  if (!isElf(bytes) || bytes.length < 64 || bytes[4] !== 2 || bytes[5] !== 1) return null;
  try {
    return parse(bytes);
  } catch (error) {
    if (error instanceof RangeError) return null; // it points beyond its own end
    throw error;
  }
}

interface Segment {
  type: number;
  offset: number;
  address: number;
  size: number;
}

function parse(bytes: Buffer): Elf {
  const type = bytes.readUInt16LE(16);
  const segments = programHeaders(bytes);
  const interpreter = segments.find((segment) => segment.type === PT_INTERP);
  return {
    arch: MACHINES[bytes.readUInt16LE(18)] ?? null,
    runnable: type === 2 || type === 3,
    interpreter: interpreter ? text(bytes, interpreter.offset) : null,
    needed: neededLibraries(bytes, segments),
  };
}

const number = (bytes: Buffer, offset: number): number => Number(bytes.readBigUInt64LE(offset));

function programHeaders(bytes: Buffer): Segment[] {
  const start = number(bytes, 32);
  const size = bytes.readUInt16LE(54);
  const count = Math.min(bytes.readUInt16LE(56), MAX_HEADERS);
  return Array.from({ length: count }, (_, index) => {
    const at = start + index * size;
    return { type: bytes.readUInt32LE(at), offset: number(bytes, at + 8), address: number(bytes, at + 16), size: number(bytes, at + 32) };
  });
}

function neededLibraries(bytes: Buffer, segments: Segment[]): string[] {
  const dynamic = segments.find((segment) => segment.type === PT_DYNAMIC);
  if (!dynamic) return [];
  const names: number[] = [];
  let strings: number | null = null;
  for (let at = dynamic.offset; at + 16 <= dynamic.offset + dynamic.size && names.length < MAX_NEEDED; at += 16) {
    const tag = number(bytes, at);
    if (tag === 0) break;
    if (tag === DT_NEEDED) names.push(number(bytes, at + 8));
    if (tag === DT_STRTAB) strings = fileOffset(number(bytes, at + 8), segments);
  }
  const table = strings;
  return table === null ? [] : names.map((name) => text(bytes, table + name));
}

/** Where in the file an address of the loaded program is. */
function fileOffset(address: number, segments: Segment[]): number | null {
  const segment = segments.find((one) => one.type === PT_LOAD && address >= one.address && address < one.address + one.size);
  return segment ? address - segment.address + segment.offset : null;
}

function text(bytes: Buffer, offset: number): string {
  const end = bytes.indexOf(0, offset);
  if (end < 0 || end - offset > MAX_NAME_BYTES) throw new RangeError('a name has no end');
  return bytes.toString('utf8', offset, end);
}
