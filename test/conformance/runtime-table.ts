/**
 * The runtimes that the suites of the protocol run against, each with what differs: how its shim is
 * started, its fixtures, and what its language calls things. A fixture has the same name in every
 * language, and does the same.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { HandlerForm } from '#contract/function.ts';
import { programOf } from '../helpers/programs.ts';
import { ROOT } from '../helpers/root.ts';

/** How a shim is started: the program and its arguments; the environment of BootEnv is added. */
export interface ShimCommand {
  file: string;
  args: string[];
}

export interface RuntimeUnderTest {
  name: string;
  command: ShimCommand;
  /** How it listens, and gets its code: a folder that both see, or POST code. */
  transport: 'unix' | 'tcp';
  /** Folder of its fixtures, and the ending of their names. */
  fixtures: string;
  extension: string;
  /** Form of the fixture `hello`. */
  form: HandlerForm;
  slots: number;
  /** What goes wrong while loading, and how that is told. */
  loadErrors: { what: string; entry: string; error: Record<string, unknown> }[];
  /** Sources that do not parse. */
  broken: { entry: string; source: string; error: Record<string, unknown> }[];
  /** Variables that the environment of a function has, beside those that it is given. */
  environment: Record<string, string>;
  /** Paths of the probe at which an error that nothing catches ends the process, and its words. */
  fatal: { path: string; said: string }[];
  /** Paths of the probe that raise, or return what is no answer. */
  throwing: string[];
  /** How the log tells where `secret detail` was thrown. */
  thrownAt: RegExp;
  /** What /log/words writes: level, stream, message. */
  logged: [level: string, stream: string, msg: string][];
}

const SHIMS = join(ROOT, 'runtime-images');
const FIXTURES = join(import.meta.dirname, 'fixtures');

/** What every test error has in common: a text within. */
const holding = (text: string): unknown => ({ asymmetricMatch: (value: unknown) => String(value).includes(text), toString: () => text });

export const NODE: RuntimeUnderTest = {
  name: 'node',
  transport: 'unix',
  command: { file: process.execPath, args: [join(SHIMS, 'node/shim.mjs')] },
  fixtures: join(FIXTURES, 'runtime'),
  extension: '.mjs',
  form: 'fetch',
  slots: 50,
  loadErrors: [
    {
      what: 'an exception while loading',
      entry: 'throws',
      error: { name: 'TypeError', message: 'thrown while loading', at: 'throws.mjs:1:7' },
    },
    { what: 'null, thrown', entry: 'throws-null', error: { name: 'Error', message: 'thrown: null' } },
    { what: 'no handler', entry: 'nothing', error: { name: 'NoHandler', message: holding('exports answer') } },
    { what: 'process.exit while loading', entry: 'exits', error: { name: 'ProcessExit', message: holding('process.exit(4)') } },
    { what: 'a rejection that nobody handles', entry: 'rejects', error: { name: 'RangeError', message: 'nobody awaits this' } },
    {
      what: 'a rejection beside a handler',
      entry: 'rejects-beside',
      error: { name: 'RangeError', message: 'nobody awaits this either', at: 'rejects-beside.mjs:1:16' },
    },
    {
      what: 'a class where an instance belongs',
      entry: 'class',
      error: { name: 'NoHandler', message: holding('export default new Api()') },
    },
    { what: 'a package that is missing', entry: 'missing', error: { message: holding('no-such-package') } },
    { what: 'a file that is missing', entry: 'not-there', error: { message: holding('not-there.mjs') } },
    { what: 'an await that never settles', entry: 'never', error: { name: 'LoadTimeout' } },
  ],
  broken: [
    {
      entry: 'syntax.mjs',
      source: 'export default {\n  fetch( { return; }\n};\n',
      error: { name: 'SyntaxError', message: "Unexpected token ';'" },
    },
    {
      entry: 'syntax.cjs',
      source: 'module.exports = {\n  fetch( { return; }\n};\n',
      error: { name: 'SyntaxError', at: 'syntax.cjs:2:18' },
    },
    { entry: 'binary.mjs', source: '\u0000\u0001\u0002', error: { name: 'SyntaxError' } },
  ],
  environment: { HOME: '/tmp', PORT: '8080' },
  fatal: [
    { path: '/crash', said: 'past everybody' },
    { path: '/reject', said: 'nobody awaits' },
  ],
  throwing: ['/throws', '/throwsNothing', '/hostile', '/notAResponse', '/locked', '/usedUp'],
  thrownAt: /TypeError: secret detail\n\s+at .*probe\.mjs:\d+:\d+/,
  logged: [
    ['info', 'out', 'log words'],
    ['error', 'err', 'error words'],
    ['warn', 'err', 'warn words'],
    ['debug', 'out', 'debug words'],
    ['info', 'out', 'raw words'],
  ],
};

export const PYTHON: RuntimeUnderTest = {
  name: 'python',
  transport: 'unix',
  command: {
    file: existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3',
    args: ['-I', '-S', '-B', '-X', 'utf8', join(SHIMS, 'python/shim.py')],
  },
  fixtures: join(FIXTURES, 'runtime-python'),
  extension: '.py',
  form: 'function',
  slots: 50,
  loadErrors: [
    {
      what: 'an exception while loading',
      entry: 'throws',
      error: { name: 'TypeError', message: 'thrown while loading', at: 'throws.py:1' },
    },
    { what: 'no handler', entry: 'nothing', error: { name: 'NoHandler', message: holding('it has answer') } },
    { what: 'sys.exit while loading', entry: 'exits', error: { name: 'ProcessExit', message: holding('sys.exit(4)') } },
    { what: 'os._exit while loading', entry: 'exits-hard', error: { name: 'ProcessExit', message: holding('os._exit(5)') } },
    { what: 'a class where an instance belongs', entry: 'class', error: { name: 'NoHandler', message: holding('app = app()') } },
    {
      what: 'a package that is missing',
      entry: 'missing',
      error: { name: 'ModuleNotFoundError', message: holding('no_such_package'), at: 'missing.py:1' },
    },
    { what: 'a file that is missing', entry: 'not-there', error: { message: holding('not-there.py') } },
    { what: 'a module that never ends', entry: 'never', error: { name: 'LoadTimeout' } },
    { what: 'a startup that fails', entry: 'startup', error: { name: 'StartupFailed', message: holding('no database') } },
  ],
  broken: [
    { entry: 'syntax.py', source: 'def main(request:\n    return 1\n', error: { name: 'SyntaxError', at: 'syntax.py:1:9' } },
    { entry: 'indented.py', source: 'def main(request):\nreturn 1\n', error: { name: 'IndentationError', at: holding('indented.py:2') } },
    { entry: 'binary.py', source: '\u0001\u0002', error: { name: 'SyntaxError' } },
  ],
  environment: { HOME: '/tmp', PORT: '8080' },
  fatal: [],
  throwing: ['/throws', '/hostile', '/notAResponse', '/badHeader', '/badStatus'],
  thrownAt: /File "probe\.py", line \d+, in route\n[^]*TypeError: secret detail/,
  logged: [
    ['info', 'out', 'log words'],
    ['error', 'err', 'error words'],
    ['warn', 'err', 'warn words'],
    ['debug', 'err', 'debug words'],
    ['info', 'out', 'raw words'],
  ],
};

/** As node's, but where the engine tells a place or a syntax error in its own way. */
function likeNode(change: Partial<RuntimeUnderTest>, errors: Record<string, Record<string, unknown>>): RuntimeUnderTest {
  const loadErrors = NODE.loadErrors.map((one) =>
    Object.hasOwn(errors, one.entry) ? { ...one, error: { ...one.error, ...errors[one.entry] } } : one,
  );
  const broken = NODE.broken.map((one) =>
    Object.hasOwn(errors, one.entry) ? { ...one, error: { ...one.error, ...errors[one.entry] } } : one,
  );
  return { ...NODE, ...change, loadErrors, broken };
}

export const BUN = likeNode(
  { name: 'bun', command: { file: await programOf('bun'), args: ['--no-install', join(SHIMS, 'bun/shim.mjs')] } },
  {
    // JavaScriptCore points at the name behind `new`.
    throws: { at: 'throws.mjs:1:11' },
    'rejects-beside': { at: 'rejects-beside.mjs:1:20' },
    'syntax.mjs': { message: 'Expected "}" but found ";"', at: 'syntax.mjs:2:18' },
  },
);

export const DENO = likeNode(
  {
    name: 'deno',
    command: {
      file: await programOf('deno'),
      args: [
        ...['run', '--allow-all', '--deny-import', '--no-prompt', '--no-config', '--no-lock', '--cached-only'],
        join(SHIMS, 'deno/shim.mjs'),
      ],
    },
  },
  { 'syntax.mjs': { message: "Expected ',', got ';'", at: 'syntax.mjs:2:18' } },
);

export const RUNTIMES: RuntimeUnderTest[] = [NODE, BUN, DENO, PYTHON];

/** As in a cluster. */
export const overTcp = (runtime: RuntimeUnderTest): RuntimeUnderTest => ({
  ...runtime,
  name: `${runtime.name} over TCP`,
  transport: 'tcp',
});
