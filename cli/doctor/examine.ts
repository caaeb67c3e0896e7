/** All that `fn doctor` looks at. */
import { z } from 'zod';
import { homePaths } from '#kit/paths.ts';
import { chooseStoreUrl } from '#kit/store-url.ts';
import { DEFAULT_PORT } from '../commands/up.ts';
import { askEngine, findEngine } from '../engine.ts';
import type { EngineState } from '../engine.ts';
import { runningState } from '../state.ts';
import type { Finding } from './finding.ts';
import { examineCgroups, examineDisk, examineImageBuilder, examineMemory, examineNode, examinePort, outputOf } from './host.ts';
import { examineRunc, runcChangelog } from './runc.ts';
import { examineStore } from './store.ts';

export interface ExamineOptions {
  env: NodeJS.ProcessEnv;
  home: string;
  /** Asked for; else the running gateway's, else the default. */
  port: number | undefined;
  /** redis://…, asked for; else that of the running platform, else FN_STORE. */
  store: string | undefined;
}

export async function examine({ env, home, port, store }: ExamineOptions): Promise<Finding[]> {
  const paths = homePaths(home);
  const state = runningState(paths);
  const asked = port ?? state?.port ?? DEFAULT_PORT;
  const engine = await findEngine(env);
  return [
    examineNode(),
    ...(await examineEngine(engine)),
    examineCgroups(),
    examineMemory(),
    examineDisk(paths.home),
    await examinePort(asked, asked === state?.port),
    await examineImageBuilder(),
    ...(await examineStore(chooseStoreUrl(store ?? state?.started.store, env.FN_STORE || undefined))),
    examineRights(),
  ];
}

function examineRights(): Finding {
  if (process.getuid?.() === 0)
    return { level: 'ok', what: 'rights', found: 'root: egress is filtered, one parent cgroup, the gateway under a uid of its own' };
  return {
    level: 'warn',
    what: 'rights',
    found: 'not root: no egress rules and no parent cgroup of its own',
    remedy: 'Once: sudo fn host-setup',
  };
}

/** What of `GET /version` matters; other engines leave parts out. */
const EngineVersion = z.object({
  Version: z.string(),
  ApiVersion: z.string(),
  Components: z.array(z.object({ Name: z.string(), Version: z.string() })).optional(),
});

/** Docker 20.10, the oldest that was tried. */
const OLDEST_API = 1.41;

async function examineEngine(engine: EngineState): Promise<Finding[]> {
  const what = 'engine';
  if (engine.kind !== 'ready') {
    const found = `no Docker engine at ${engine.where}: ${engine.detail}; functions run as plain processes, which isolates nothing`;
    return [{ level: 'warn', what, found, remedy: engine.remedy }];
  }
  const answer = EngineVersion.safeParse(await askEngine(engine.target, '/version'));
  if (!answer.success) return [{ level: 'warn', what, found: `what answers at ${engine.where} is no Docker engine that fn knows` }];
  const { Version, ApiVersion, Components = [] } = answer.data;
  const found = `Docker ${Version} (API ${ApiVersion}) at ${engine.where}`;
  const old = Number(ApiVersion) < OLDEST_API;
  const findings: Finding[] = [
    old
      ? { level: 'warn', what, found: `${found}: older than fn was tried with`, remedy: 'Docker 20.10 or newer' }
      : { level: 'ok', what, found },
  ];
  const runc = Components.find(({ Name }) => Name === 'runc');
  if (runc) {
    const packageVersion = await outputOf('dpkg-query', ['-W', '-f=${Version}', 'runc']);
    findings.push(examineRunc(runc.Version, packageVersion === '' ? null : packageVersion, runcChangelog()));
  }
  return findings;
}
