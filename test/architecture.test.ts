/**
 * Who may import whom, read from the source itself: type imports and dynamic imports count.
 * The rules keep the trust boundaries (a gateway that cannot reach a store or an engine) and the
 * pure core (decisions that run in virtual time).
 */
import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { join, posix } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from './helpers/root.ts';
import { type SourceFile, findings, sourceFiles } from './helpers/source.ts';

const files = sourceFiles();
const isTest = (path: string) => path.endsWith('.test.ts') || path.startsWith('test/');

/** Where an import leads: a path from the root, `node:fs`, or `npm:NAME`. */
function target(from: string, specifier: string): string {
  if (specifier.startsWith('#contract/')) return `controller/contract/${specifier.slice('#contract/'.length)}`;
  if (specifier.startsWith('#kit/')) return `controller/kit/${specifier.slice('#kit/'.length)}`;
  if (specifier.startsWith('.')) return posix.join(posix.dirname(from), specifier);
  if (specifier.startsWith('node:')) return specifier;
  return `npm:${specifier}`;
}

interface Rule {
  /** Files that it is about; the first rule that matches counts. */
  files: RegExp;
  /** Targets that they may import. */
  may: RegExp[];
  says: string;
}

const CONTRACT = /^controller\/contract\//;
const KIT = /^controller\/kit\//;
const CORE = /^controller\/core\//;
const PORTS = /^controller\/(?:accounting|driver|store|triggers|calls|dispatcher)\/types\.ts$/;
/** What driver, lease and declared functions need of Kubernetes: the port and what is set, never the connection. */
const KUBE = /^controller\/kube\/(?:types|settings|watch|resources)\.ts$/;
const EVENT_STORE = /^controller\/store\/events\.ts$/;
const NODE = /^node:/;
const NPM = /^npm:/;
/** For its version. */
const VERSION = /^package\.json$/;

/** One adapter's folder: its own files and those shared by its kind, never another adapter. */
const adapter = (kind: string, name: string): Rule => ({
  files: new RegExp(`^controller/${kind}/${name}/`),
  may: [
    CONTRACT,
    KIT,
    CORE,
    NODE,
    NPM,
    ...(name === 'kubernetes' ? [KUBE] : []),
    new RegExp(`^controller/${kind}/(?:${name}/|[^/]+\\.ts$)`),
  ],
  says: `a ${kind} adapter imports contract, kit, core types and its own kind, never another adapter`,
});

const adapters = [...new Set(files.map(({ path }) => /^controller\/(driver|store|triggers)\/([^/]+)\//.exec(path)?.slice(1).join(' ')))]
  .filter((pair) => pair !== undefined)
  .map((pair) => pair.split(' '))
  .map(([kind, name]) => adapter(kind!, name!));

const RULES: Rule[] = [
  { files: CONTRACT, may: [CONTRACT, /^npm:zod$/], says: 'the contract imports zod only' },
  { files: KIT, may: [CONTRACT, KIT, NODE, NPM], says: 'kit imports the contract' },
  { files: CORE, may: [CONTRACT, CORE], says: 'core is pure: it imports the contract only' },
  ...adapters,
  {
    files: /^controller\/kube\//,
    may: [CONTRACT, KIT, /^controller\/store\/types\.ts$/, NODE, NPM, /^controller\/kube\//],
    says: 'the way to a Kubernetes API server knows nothing of what is done with it',
  },
  {
    files: /^controller\/declared\//,
    may: [
      CONTRACT,
      KIT,
      KUBE,
      PORTS,
      NODE,
      NPM,
      /^controller\/declared\//,
      // What the API checks is checked here by the same code.
      /^controller\/api\/(?:platform|problems|trigger-faults|uploads)\.ts$/,
    ],
    says: 'declared functions know the ports, and what the API checks',
  },
  {
    files: /^controller\/(?:driver|store|triggers)\/[^/]+$/,
    may: [CONTRACT, KIT, CORE, NODE, NPM, /^controller\/(?:driver|store|triggers)\/[^/]+\.ts$/],
    says: 'what adapters of a kind share knows none of them',
  },
  {
    files: /^controller\/api\//,
    may: [CONTRACT, KIT, CORE, PORTS, NODE, NPM, /^controller\/api\//],
    says: 'the API knows core and the ports, no adapter and no engine',
  },
  {
    files: /^controller\/secrets\//,
    may: [CONTRACT, KIT, /^controller\/store\/types\.ts$/, NODE, /^controller\/secrets\//],
    says: 'secrets know the store port only',
  },
  {
    files: /^controller\/tenants\//,
    may: [CONTRACT, KIT, /^controller\/store\/types\.ts$/, NODE, /^controller\/tenants\//],
    says: 'tenants know the store port only',
  },
  {
    files: /^controller\/calls\//,
    may: [CONTRACT, KIT, NODE, NPM, /^controller\/calls\//],
    says: 'the journal of calls knows contract and kit only: what it needs of the engine it is given',
  },
  {
    files: /^controller\/accounting\//,
    may: [CONTRACT, KIT, PORTS, NODE, NPM, /^controller\/accounting\//],
    says: 'accounting knows the ports of driver and store, no engine',
  },
  {
    files: /^controller\/engine\//,
    may: [CONTRACT, KIT, CORE, PORTS, NODE, NPM, /^controller\/engine\//, /^controller\/api\/platform\.ts$/, /^controller\/config\.ts$/],
    says: 'the engine knows core and the ports, no adapter',
  },
  {
    files: /^controller\/dispatcher\//,
    may: [CONTRACT, KIT, CORE, PORTS, EVENT_STORE, NODE, NPM, /^controller\/dispatcher\//],
    says: 'the dispatcher knows core and the ports, no store and no broker',
  },
  {
    files: /^controller\/events\//,
    may: [CONTRACT, KIT, PORTS, NODE, /^controller\/events\//, /^controller\/api\/platform\.ts$/],
    says: 'who starts the dispatcher knows the ports only',
  },
  {
    files: /^controller\/(?:main|lead|dispatcher-main|host-setup-main)\.ts$/,
    may: [/^controller\//, VERSION, NODE, NPM],
    says: 'a composition root knows the controller',
  },
  {
    files: /^controller\/[^/]+$/,
    may: [CONTRACT, KIT, CORE, PORTS, KUBE, NODE, NPM, /^controller\/[^/]+\.ts$/],
    says: 'only main.ts knows adapters',
  },
  { files: /^gateway\//, may: [CONTRACT, KIT, VERSION, NODE, NPM, /^gateway\//], says: 'the gateway imports #contract and #kit only' },
  { files: /^cli\//, may: [CONTRACT, KIT, VERSION, NODE, NPM, /^cli\//], says: 'the CLI imports #contract and #kit only' },
  {
    files: /^runtime-images\/(?:(?:builder|platform)\/.*|[^/]+)$/,
    may: [CONTRACT, KIT, NODE, NPM, /^runtime-images\//],
    says: 'the image builder imports #contract and #kit only',
  },
  { files: /^runtime-images\//, may: [NODE, /^runtime-images\//], says: 'a shim imports no npm package and nothing of the platform' },
  {
    files: /^helm\/[^/]+$/,
    may: [/^(?:controller|gateway|controller\/dispatcher)\/config\.ts$/, KUBE, NODE, /^npm:zod$/, /^helm\/[^/]+$/],
    says: 'the chart knows the settings of processes, nothing else of them',
  },
  { files: /^helm\/fn\//, may: [NODE], says: 'what runs in a pod of `helm test` has no packages' },
  { files: /^examples\//, may: [NODE, NPM, /^examples\//], says: 'an example is a folder that a user could copy' },
];

/** Sole readers of the environment. kit/paths.ts takes it as a parameter whose default the CLI uses. */
const READS_ENV =
  /^(?:(?:controller|gateway)\/(?:main|dispatcher-main|config)\.ts|controller\/dispatcher\/config\.ts|controller\/kit\/paths\.ts|controller\/kube\/credentials\.ts)$/;

/** What makes a decision depend on anything but its arguments. */
const IMPURE =
  /^(?:Date\.now|Math\.random|performance\.\w+|process\.\w+|crypto\.\w+|console\.\w+|new Date\(\)|Date\(\)|fetch\(\)|set(?:Timeout|Interval|Immediate)\(\)|queueMicrotask\(\))$/;

function violations(judge: (file: SourceFile) => string[]): string[] {
  return files.flatMap(judge);
}

describe('imports', () => {
  it('finds the source', () => {
    const paths = files.map((file) => file.path);
    expect(paths).toContain('controller/contract/errors.ts');
    expect(paths.length).toBeGreaterThan(20);
  });

  it('follow the rules of their folder', () => {
    const broken = violations((file) => {
      if (isTest(file.path)) return [];
      const rule = RULES.find(({ files: pattern }) => pattern.test(file.path));
      if (!rule) return [`${file.path}: no rule covers this file`];
      return findings(file)
        .filter(({ kind, name }) => kind === 'import' && !rule.may.some((allowed) => allowed.test(target(file.path, name))))
        .map(({ name, line }) => `${file.path}:${line} imports ${name}: ${rule.says}`);
    });
    expect(broken).toEqual([]);
  });

  it('name files with their ending', () => {
    const broken = violations((file) =>
      file.path.startsWith('examples/')
        ? []
        : findings(file)
            .filter(({ kind, name }) => kind === 'import' && /^(?:\.|#)/.test(name) && !/\.(?:[mc]?[tj]s|json)$/.test(name))
            .map(({ name, line }) => `${file.path}:${line} imports ${name} without its ending`),
    );
    expect(broken).toEqual([]);
  });
});

describe('globals', () => {
  it('core takes time and chance as arguments', () => {
    const broken = violations((file) =>
      CORE.test(file.path) && !isTest(file.path)
        ? findings(file)
            .filter(({ kind, name }) => kind === 'name' && IMPURE.test(name))
            .map(({ name, line }) => `${file.path}:${line} uses ${name}`)
        : [],
    );
    expect(broken).toEqual([]);
  });

  it('only main.ts and config.ts of controller and gateway read the environment', () => {
    const broken = violations((file) =>
      /^(?:controller|gateway)\//.test(file.path) && !isTest(file.path) && !READS_ENV.test(file.path)
        ? findings(file)
            .filter(({ kind, name }) => kind === 'name' && name === 'process.env')
            .map(({ line }) => `${file.path}:${line} reads process.env`)
        : [],
    );
    expect(broken).toEqual([]);
  });
});

describe('types', () => {
  it('are not forced through unknown or any', () => {
    const broken = violations((file) =>
      findings(file)
        .filter(({ kind }) => kind === 'double-cast')
        .map(({ line }) => `${file.path}:${line} casts twice`),
    );
    expect(broken).toEqual([]);
  });
});

describe('source', () => {
  it('is read by Node as it is: programs and tests run from it, and esbuild takes more than Node does', () => {
    const refused = files.flatMap(({ path }) => {
      try {
        stripTypeScriptTypes(readFileSync(join(ROOT, path), 'utf8'));
        return [];
      } catch (error) {
        return [`${path}: ${String(error)}`];
      }
    });
    expect(refused).toEqual([]);
  });
});

describe('tests', () => {
  /** A measured time with an upper bound. Virtual clocks are named `clock`, as `machine.clock.now()`. */
  const TIMED =
    /expect\([^;]*?(?:performance\.now\(\)|Date\.now\(\)|runningClock\.now\(\)|\b(?:recoveryMs|longestMs|took|elapsed)\b)[^;]*?\)\.toBeLess/g;

  it('assert no elapsed time: what a slow machine takes is a figure, and what a test holds is the cause or the order', () => {
    const broken = violations((file) =>
      isTest(file.path)
        ? [...file.text.matchAll(TIMED)].map(({ index }) => `${file.path}:${file.text.slice(0, index).split('\n').length} asserts a time`)
        : [],
    );
    expect(broken).toEqual([]);
    const sample = ['expect(performance.now() - started)', 'toBeLessThan(5_000);'].join('.');
    expect(sample).toMatch(new RegExp(TIMED.source));
  });
});
