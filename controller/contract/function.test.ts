import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CheckedFunctionSettings,
  Cidr,
  Egress,
  EgressEntry,
  egressParts,
  Entry,
  EnvVars,
  FunctionSettings,
  heapLimitMib,
  memoryClass,
  MEMORY_CLASSES_MIB,
  networkClass,
  Revision,
  tmpSizeMib,
} from './function.ts';

const accepts = (settings: object): boolean => CheckedFunctionSettings.safeParse(settings).success;

describe('settings', () => {
  it('of nothing are the defaults', () => {
    expect(CheckedFunctionSettings.parse({})).toEqual({
      runtime: 'node',
      memoryMib: 128,
      cpu: 1,
      timeoutSeconds: 30,
      concurrency: null,
      min: 0,
      max: 100,
      keepAliveSeconds: 'auto',
      egress: null,
      env: {},
      sandbox: null,
      secrets: [],
      maxStreamSeconds: 3_600,
    });
  });

  const bounds: [string, number, number][] = [
    ['memoryMib', 64, 8_192],
    ['cpu', 0.05, 64],
    ['timeoutSeconds', 0.1, 3_600],
    ['concurrency', 1, 1_000],
    ['max', 1, 1_000],
    ['keepAliveSeconds', 0, 86_400],
  ];

  it.each(bounds)('%s: from %d to %d, ends included', (field, least, most) => {
    expect(accepts({ [field]: least })).toBe(true);
    expect(accepts({ [field]: most })).toBe(true);
    for (const bad of [least - 0.01, most + 1, -1, -0.5, 1e18, NaN, Infinity, -Infinity, '5', true, [], {}, 5n])
      expect([bad, accepts({ [field]: bad })]).toEqual([bad, false]);
  });

  it.each(['memoryMib', 'concurrency', 'min', 'max'])('%s is whole', (field) => {
    expect(accepts({ [field]: 64.5 })).toBe(false);
  });

  it('min is at most max, and the error points to min', () => {
    expect(accepts({ min: 3, max: 3 })).toBe(true);
    expect(CheckedFunctionSettings.safeParse({ min: 4, max: 3 }).error?.issues[0]?.path).toEqual(['min']);
    expect(accepts({ min: 101 })).toBe(false);
  });

  it.each(['constructor', 'memory', 'toString', '__proto__'])('an unknown field %s is refused', (field) => {
    expect(accepts(JSON.parse(`{"${field}": 1}`))).toBe(false);
  });

  it.each(['constructor', '../node', 'Node', ''])('runtime %j is refused', (runtime) => expect(accepts({ runtime })).toBe(false));

  it('two parses share nothing that could be changed', () => {
    const first = FunctionSettings.parse({});
    first.env.A = '1';
    expect(FunctionSettings.parse({}).env).toEqual({});
  });
});

describe('egress', () => {
  it.each([
    ['none'],
    ['internet'],
    [['10.0.0.0/8']],
    [['1.2.3.4', '0.0.0.0/0']],
    [['api.example.com', 'xn--bcher-kva.example', '3com.com', '10.1.2.0/24']],
    [Array.from({ length: 16 }, (_, i) => `h${i}.example.com`)],
  ])('%j: yes', (egress) => expect(Egress.safeParse(egress).success).toBe(true));
  it.each([
    ['all'],
    [[]],
    [['10.0.0.0/33']],
    [['256.0.0.1']],
    [['::1']],
    [['10.0.0.0/8; drop']],
    [['10.0.0.0/8\n']],
    [Array.from({ length: 65 }, () => '1.1.1.1')],
    [null],
  ])('%j: no', (egress) => expect(Egress.safeParse(egress).success).toBe(false));

  it.each([
    ['*.example.com', 'there is no *'],
    ['https://example.com', 'without scheme, port or path'],
    ['example.com:443', 'without scheme, port or path'],
    ['example.com/24', 'without scheme, port or path'],
    ['user@example.com', 'a full host name'],
    ['fe80::1', 'not IPv6'],
    ['API.example.com', 'in lower case'],
    ['bücher.example', 'xn--'],
    ['db', 'a full host name'],
    ['localhost', 'a full host name'],
    ['evil.localhost', 'never to be dialled'],
    ['example.com.', 'a full host name'],
    ['example..com', 'a full host name'],
    ['-a.example.com', 'a full host name'],
    ['a-.example.com', 'a full host name'],
    ['a_b.example.com', 'a full host name'],
    ['example.com\n', 'a full host name'],
    ['example.com 10.0.0.1', 'a full host name'],
    ['127.1', 'a full host name'],
    ['0x7f.1', 'a full host name'],
    ['1.2.3.0x4', 'a full host name'],
    ['2130706433', 'a full host name'],
    [`${'a'.repeat(64)}.example.com`, 'a full host name'],
    [`${'a.'.repeat(126)}com`, 'at most 253'],
  ])('%j is no host: %s', (host, words) => {
    const { error } = EgressEntry.safeParse(host);
    expect(error?.issues.map(({ message }) => message).join()).toContain(words);
  });

  it('takes sixteen hosts, and tells them from networks', () => {
    expect(Egress.safeParse(Array.from({ length: 17 }, (_, index) => `h${index}.example.com`)).success).toBe(false);
    const parts = { hosts: ['a.example.com'], networks: ['10.0.0.0/8', '1.2.3.4'] };
    expect(egressParts(['10.0.0.0/8', 'a.example.com', '1.2.3.4', 'a.example.com'])).toEqual(parts);
  });

  it('any four octets and any prefix are a network', () => {
    const octet = fc.integer({ min: 0, max: 255 });
    fc.assert(
      fc.property(fc.tuple(octet, octet, octet, octet), fc.integer({ min: 0, max: 32 }), (octets, prefix) => {
        expect(Cidr.safeParse(`${octets.join('.')}/${prefix}`).success).toBe(true);
      }),
    );
  });

  it('decides the network class', () => {
    expect([networkClass('none'), networkClass('internet'), networkClass(['10.0.0.0/8'])]).toEqual(['none', 'egress', 'egress']);
  });
});

describe('environment', () => {
  it.each([{ A: '' }, { _a1: 'x\ny' }, { PATH: 'ü' }, { ['A'.repeat(128)]: 'x'.repeat(32_768) }])('%#: yes', (env) =>
    expect(EnvVars.safeParse(env).success).toBe(true),
  );
  it.each([
    { '1A': '' },
    { 'A-B': '' },
    { '': '' },
    { FN_HOME: '' },
    { A: 'x\0y' },
    { A: 1 },
    { ['A'.repeat(129)]: '' },
    { A: 'x'.repeat(32_769) },
  ])('%#: no', (env) => expect(EnvVars.safeParse(env).success).toBe(false));
  it('is 128 KiB at most', () => {
    expect(EnvVars.safeParse(Object.fromEntries(Array.from({ length: 5 }, (_, index) => [`A${index}`, 'x'.repeat(30_000)]))).success).toBe(
      false,
    );
  });
});

describe('entry', () => {
  it.each(['index.mjs', 'a/b/c.js', 'x@1.2/y_z-0.cjs', '0'])('%s: yes', (entry) => expect(Entry.safeParse(entry).success).toBe(true));
  it.each([
    '',
    '.',
    '..',
    '../x',
    'a/../b',
    'a/..',
    '/a',
    'a//b',
    'a/',
    './a',
    '.hidden',
    'a\\b',
    'a b',
    'a\0',
    'a\n',
    'ü',
    'a'.repeat(256),
  ])('%j: no', (entry) => expect(Entry.safeParse(entry).success).toBe(false));
});

describe('memory classes', () => {
  it('the smallest that holds it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 32, max: 8_192 }), (memoryMib) => {
        const size = memoryClass(memoryMib);
        expect(size).toBeGreaterThanOrEqual(memoryMib);
        expect(MEMORY_CLASSES_MIB.filter((each) => each >= memoryMib && each < size)).toEqual([]);
      }),
    );
    expect(() => memoryClass(8_193)).toThrow(RangeError);
  });

  it.each(MEMORY_CLASSES_MIB)('%d MiB: the heap leaves room for the process', (size) => {
    expect(heapLimitMib(size)).toBeLessThan(size * 0.9);
    expect(tmpSizeMib(size)).toBeGreaterThanOrEqual(32);
  });
});

describe('a revision', () => {
  it('has no setting left open', () => {
    const revision = {
      key: 'default/a@1',
      namespace: 'default',
      name: 'a',
      number: 1,
      bundle: `sha256:${'0'.repeat(64)}`,
      entry: 'a.mjs',
      form: 'fetch',
      createdAt: 1,
    };
    expect(Revision.safeParse({ ...revision, settings: { concurrency: 1, egress: 'none' } }).success).toBe(true);
    expect(Revision.safeParse({ ...revision, settings: { concurrency: null, egress: 'none' } }).success).toBe(false);
    expect(Revision.safeParse({ ...revision, settings: { concurrency: 1, egress: null } }).success).toBe(false);
  });
});
