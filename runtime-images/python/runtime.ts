/** The image of the runtime `python`: Debian's Python, its standard library, and the shim. */
import { INSTANCE_UID } from '../builder/definition.ts';
import { COMMON, type RuntimeDefinition } from '../builder/runtime.ts';
import { compilePython } from './compile.ts';

export const python: RuntimeDefinition = {
  ...COMMON,
  name: 'python',
  title: 'its root file system, Python, the shim',
  packages: [
    'libbz2-1.0',
    'libexpat1',
    'libffi8',
    'liblzma5',
    'libpython3.11-minimal',
    'libpython3.11-stdlib',
    'libsqlite3-0',
    'libssl3',
    'libuuid1',
    'python3.11-minimal',
    'zlib1g',
  ],
  kept: [/^usr\/bin\/python3\.11$/, /^usr\/lib\/python3\.11\//],
  dropped: [
    // What needs libraries that are not in the image, or a screen.
    /\/lib-dynload\/(?:_crypt|_curses|_curses_panel|_dbm|nis|ossaudiodev|readline)\./,
    // Tools for whoever develops in Python, not for what runs.
    /^usr\/lib\/python3\.11\/(?:ensurepip|idlelib|lib2to3|pydoc_data|test|tkinter|turtledemo|venv)\//,
    /^usr\/lib\/python3\.11\/(?:config-3\.11-[^/]+|__pycache__)\//,
    // Links into /etc, for the machine's administrator.
    /^usr\/lib\/python3\.11\/sitecustomize\.py$/,
  ],
  allowed: /^usr\/bin\/python(?:3(?:\.11)?)?$/,
  links: { 'usr/bin/python3': 'python3.11', 'usr/bin/python': 'python3.11' },
  shim: ['shim.py', 'fnshim'],
  shimExtensions: ['.py'],
  config: {
    User: `${INSTANCE_UID}:${INSTANCE_UID}`,
    Env: ['PATH=/usr/local/bin:/usr/bin', 'HOME=/tmp', 'LANG=C.UTF-8'],
    Entrypoint: ['/usr/bin/python3.11'],
    Cmd: ['-I', '-S', '-B', '-X', 'utf8', '/fn/shim.py'],
    WorkingDir: '/tmp',
    StopSignal: 'SIGTERM',
  },
  version: () => ({ package: 'python3.11-minimal' }),
  complete: compilePython,
};
