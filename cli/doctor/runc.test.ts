import { describe, expect, it } from 'vitest';
import { ESCAPES, examineRunc, isFixed, parseVersion } from './runc.ts';

describe('runc', () => {
  it.each([
    ['1.1.12', true],
    ['1.1.5+ds1', false],
    ['1.2.0', true],
    ['1.0.3', false],
  ])('%s and CVE-2024-21626: fixed %s', (version, fixed) => expect(isFixed(parseVersion(version)!, ['1.1.12'])).toBe(fixed));

  it.each([
    ['1.1.15', false],
    ['1.2.7', false],
    ['1.2.8', true],
    ['1.3.2', false],
    ['1.3.3', true],
    ['1.4.0-rc.2', false],
    ['1.4.0-rc.3', true],
    ['1.4.0', true],
    ['1.5.0', true],
  ])('%s and the three of 2025: fixed %s', (version, fixed) => {
    const ofThatYear = ESCAPES.filter(({ cve }) => cve.startsWith('CVE-2025'));
    expect(ofThatYear.map(({ fixedIn }) => isFixed(parseVersion(version)!, fixedIn))).toEqual([fixed, fixed, fixed]);
  });

  it('believes a package about what it names, and nothing else', () => {
    const finding = examineRunc('1.1.5+ds1', '1.1.5+ds1-1+deb12u1', '* CVE-2024-21626: several container breakouts');
    expect(finding.level).toBe('warn');
    expect(finding.found).toContain('the package carries the fix of CVE-2024-21626');
    expect(finding.found).toContain('CVE-2025-31133');
    expect(finding.found).not.toMatch(/not.*fixed: CVE-2024-21626/);
    expect(examineRunc('1.3.3', null, '')).toEqual({ level: 'ok', what: 'runc', found: '1.3.3: no known escape' });
  });
});
