import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { newInstanceId, newLeaseId } from '#kit/ids.ts';
import {
  BundleDigest,
  FunctionName,
  functionPath,
  InstanceId,
  LABEL_PATTERN,
  LeaseId,
  Namespace,
  parseRevisionKey,
  revisionKey,
  RevisionKey,
  revisionLabel,
} from './names.ts';

describe.each([
  ['function name', FunctionName],
  ['namespace', Namespace],
])('%s', (_what, schema) => {
  it.each(['a', '0', 'hello', 'a-b', 'a--b', 'x1', 'a'.repeat(63)])('%s: yes', (name) => expect(schema.safeParse(name).success).toBe(true));

  it.each([
    '',
    '-',
    '-a',
    'a-',
    'A',
    'a_b',
    'a.b',
    'a/b',
    '../x',
    '..',
    'a b',
    ' a',
    'a\n',
    'a\0',
    'ü',
    '@a',
    'a%2f',
    'a'.repeat(64),
    'constructor',
    'prototype',
    'tostring',
    'valueof',
    '__proto__',
  ])('%j: no', (name) => expect(schema.safeParse(name).success).toBe(false));

  it.each([1, null, undefined, {}, ['a']])('%j is no string', (name) => expect(schema.safeParse(name).success).toBe(false));
});

const label = fc.stringMatching(LABEL_PATTERN).filter((name) => FunctionName.safeParse(name).success);

describe('a revision key', () => {
  it('is taken apart as it was put together', () => {
    fc.assert(
      fc.property(label, label, fc.integer({ min: 1, max: 9_999_999_999 }), (namespace, name, number) => {
        const key = revisionKey(namespace, name, number);
        expect(RevisionKey.safeParse(key).success).toBe(true);
        expect(parseRevisionKey(key)).toEqual({ namespace, name, number });
      }),
    );
  });

  it.each([
    'default/hello@0',
    'default/hello@01',
    'default/hello',
    'hello@1',
    'a/b/c@1',
    'default/Hello@1',
    'default/hello@-1',
    'default/hello@1 ',
  ])('%s is none', (key) => expect(RevisionKey.safeParse(key).success).toBe(false));

  it('throws for what is not one of ours', () => expect(() => parseRevisionKey('nonsense')).toThrow(/"nonsense"/));

  it('is short for people in the default namespace', () => {
    expect([revisionLabel('default/hello@7'), revisionLabel('team/hello@7'), revisionLabel('default-2/hello@7')]).toEqual([
      'hello@7',
      'team/hello@7',
      'default-2/hello@7',
    ]);
  });
});

describe('paths and ids', () => {
  it('a function of the default namespace is at the top', () => {
    expect([functionPath('default', 'hello'), functionPath('team', 'hello')]).toEqual(['/hello', '/@team/hello']);
  });

  it('ids are as the contract has them', () => {
    for (let index = 0; index < 100; index++) {
      expect(InstanceId.safeParse(newInstanceId()).success).toBe(true);
      expect(LeaseId.safeParse(newLeaseId()).success).toBe(true);
    }
  });

  it.each([`sha256:${'A'.repeat(64)}`, `sha256:${'a'.repeat(63)}`, `sha256:${'a'.repeat(64)}\n`, `md5:${'a'.repeat(32)}`])(
    '%j is no digest',
    (digest) => expect(BundleDigest.safeParse(digest).success).toBe(false),
  );
});
