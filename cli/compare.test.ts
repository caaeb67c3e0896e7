import { describe, expect, it } from 'vitest';
import { DEFAULT_ACCESS } from '#contract/access.ts';
import type { RevisionView } from '#contract/api.ts';
import type { FunctionSettingsInput } from '#contract/function.ts';
import { FunctionSettings } from '#contract/function.ts';
import { changeLines } from './change-text.ts';
import type { Deployed, Wanted } from './compare.ts';
import { compare } from './compare.ts';

const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;

/** A revision as the platform keeps it: what was left open is decided. */
function revision(number: number, percent: number, settings: FunctionSettingsInput = {}, bundle = 'a'): RevisionView {
  const given = FunctionSettings.parse(settings);
  return {
    key: `default/f@${number}`,
    namespace: 'default',
    name: 'f',
    number,
    bundle: digest(bundle),
    entry: 'index.mjs',
    image: null,
    settings: { ...given, concurrency: given.concurrency ?? 1, egress: given.egress ?? 'internet' },
    form: 'lambda',
    createdAt: 0,
    percent,
    previewUrl: `http://x/f@${number}`,
    instances: 0,
  };
}

/** Those with a share are its traffic; the first of them is the current one. */
function deployed(...revisions: RevisionView[]): Deployed {
  const traffic = revisions.filter(({ percent }) => percent > 0).map(({ number, percent }) => ({ revision: number, percent }));
  const current = revisions.find(({ number }) => number === traffic[0]!.revision)!;
  return {
    revisions,
    view: {
      namespace: 'default',
      name: 'f',
      url: 'http://x/f',
      urls: [],
      revision: current,
      traffic,
      access: DEFAULT_ACCESS,
      etag: '1',
      revisions: revisions.map(({ number }) => number),
      instances: 0,
    },
  };
}

const wanted = (settings: FunctionSettingsInput = {}, bundle = 'a'): Wanted => ({
  bundle: digest(bundle),
  entry: 'index.mjs',
  image: null,
  settings,
  access: DEFAULT_ACCESS,
});

const fieldsOf = (settings: FunctionSettingsInput, is: RevisionView): string[] =>
  compare(wanted(settings), deployed(is)).changes.map(({ field }) => field);

describe('compare', () => {
  it('what was never deployed is added', () => {
    expect(compare(wanted(), null)).toMatchObject({ state: 'added', needs: { revision: true, access: true }, same: null });
  });

  it('what was left to the platform is what the platform made of it', () => {
    expect(fieldsOf({}, revision(1, 100))).toEqual([]);
    expect(fieldsOf({}, revision(1, 100, { egress: 'none' }))).toEqual([]);
    expect(fieldsOf({}, revision(1, 100, { egress: ['10.0.0.0/8'] }))).toEqual(['egress']);
    expect(fieldsOf({ egress: 'none' }, revision(1, 100))).toEqual(['egress']);
    // The Lambda form has 1.
    expect(fieldsOf({ concurrency: 1 }, revision(1, 100))).toEqual([]);
    expect(fieldsOf({}, revision(1, 100, { concurrency: 9 }))).toEqual(['concurrency']);
  });

  it('names each field as fn.yaml does', () => {
    const is = revision(1, 100, { env: { A: '1', B: '2' }, secrets: ['X'] }, 'b');
    const { changes } = compare(
      wanted({ memoryMib: 64, timeoutSeconds: 5, env: { B: '3', C: '4' }, maxStreamSeconds: 60, keepAliveSeconds: 1 }),
      deployed(is),
    );
    expect(changeLines(changes)).toEqual([
      'code       bbbbbbbbbbbb → aaaaaaaaaaaa',
      'memory     128 MiB → 64 MiB',
      'timeout    30 s → 5 s',
      'keepAlive  auto → 1 s',
      'maxStream  3600 s → 60 s',
      'env.A      removed',
      'env.B      changed',
      'env.C      added',
      'secrets    X → none',
    ]);
  });

  it('any revision with traffic may be it; one without only where none is asked for', () => {
    const split = deployed(revision(3, 10, {}, 'c'), revision(2, 90, {}, 'b'), revision(1, 0));
    expect(compare(wanted({}, 'c'), split)).toMatchObject({ state: 'unchanged', same: 3, needs: { revision: false } });
    expect(compare(wanted({}, 'b'), split)).toMatchObject({ state: 'unchanged', same: 2 });
    expect(compare(wanted({}, 'a'), split)).toMatchObject({ state: 'changed', same: null, needs: { revision: true } });
    expect(compare(wanted({}, 'a'), split, { anyKept: true })).toMatchObject({ state: 'unchanged', same: 1 });
  });

  it('routes may stand in any order, and access that nobody spoke of stays', () => {
    const is = deployed(revision(1, 100));
    is.view.access = { ...DEFAULT_ACCESS, routes: [{ path: '/a' }, { path: '/b', methods: ['GET'] }], auth: { type: 'token' } };
    const access = { ...is.view.access, routes: is.view.access.routes.toReversed() };
    expect(compare({ ...wanted(), access }, is)).toMatchObject({ state: 'unchanged', changes: [] });
    expect(compare({ ...wanted(), access: undefined }, is)).toMatchObject({ state: 'unchanged', needs: { access: false } });
    const lines = changeLines(compare(wanted(), is).changes);
    expect(lines).toEqual(['routes  − /a', 'routes  − GET /b', 'auth    {"type":"token"} → {"type":"public"}']);
  });
});
