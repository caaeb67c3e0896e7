/**
 * Composition root of `fn host-setup`: prepares this host, as root, for a platform that runs as
 * another user.
 *
 *   node controller/host-setup-main.ts [--home HOME] [--uid UID] [--undo] [--json]
 *
 * The home is FN_HOME where it is not said; the user is the home's owner.
 * stdout: what was done, one line each, or JSON. Exit codes: 0, 1 failed, 2 wrong arguments.
 */
import { chownSync, existsSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { createLog } from '#kit/log.ts';
import { defaultHome, homePaths } from '#kit/paths.ts';
import { hostSetup, hostSetupUndo, type HostSetupStep } from './driver/docker/host-setup.ts';

interface Arguments {
  home: string;
  uid: number | null;
  undo: boolean;
  json: boolean;
}

function readArguments(argv: string[]): Arguments {
  const { values } = parseArgs({
    args: argv,
    options: {
      home: { type: 'string' },
      uid: { type: 'string' },
      undo: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  });
  if (values.uid !== undefined && !/^\d{1,10}$/.test(values.uid)) throw new TypeError('--uid must be the number of a user');
  return {
    home: values.home ?? defaultHome(),
    uid: values.uid === undefined ? null : Number(values.uid),
    undo: values.undo,
    json: values.json,
  };
}

/** Whose platform it is: the owner of the home; of one that is not there yet, the owner of the folder it will be in. */
function ownerOf(home: string, uid: number | null): { uid: number; gid: number } {
  let folder = resolve(home);
  while (!existsSync(folder)) folder = dirname(folder);
  const owner = statSync(folder);
  return uid === null || uid === owner.uid ? { uid: owner.uid, gid: owner.gid } : { uid, gid: uid };
}

async function main(): Promise<number> {
  let args: Arguments;
  try {
    args = readArguments(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return 2;
  }
  const owner = ownerOf(args.home, args.uid);
  const isNew = !existsSync(args.home);
  const paths = homePaths(args.home);
  // A home that root made would be of no use to the user it is for.
  if (isNew) chownSync(paths.home, owner.uid, owner.gid);
  let steps: HostSetupStep[];
  try {
    steps = args.undo ? await hostSetupUndo({ paths }) : await hostSetup({ paths, ...owner, log: createLog('host-setup', 'warn') });
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
  const lines = steps.map(({ what, ok, detail }) => `${ok ? 'done' : 'not done'}: ${what}: ${detail}\n`);
  process.stdout.write(
    args.json ? `${JSON.stringify({ home: paths.home, homeId: paths.homeId, uid: owner.uid, steps })}\n` : lines.join(''),
  );
  return 0;
}

process.exitCode = await main();
