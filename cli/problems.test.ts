import { describe, expect, it } from 'vitest';
import { fieldLabel } from './problems.ts';

describe('the name of a field', () => {
  it.each([
    ['/settings/memoryMib', '--memory'],
    ['/settings/env/A', '--env A'],
    ['/settings/secrets/0', '--secret'],
    ['/settings/egress/2', '--egress'],
    ['/access/auth/jwt', '--auth jwt'],
    ['/message', '--message'],
    ['/bundle', '/bundle'],
  ])('%s is %s to who typed it', (pointer, label) => expect(fieldLabel(pointer)).toBe(label));
});
