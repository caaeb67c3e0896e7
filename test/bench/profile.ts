/** Reads what `node --cpu-prof` wrote: where the time of a process went, by function. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

/** The part of V8's format that is read. Times in µs. */
const CpuProfile = z.object({
  nodes: z.array(
    z.object({
      id: z.number(),
      callFrame: z.object({ functionName: z.string(), url: z.string(), lineNumber: z.number() }),
    }),
  ),
  samples: z.array(z.number()),
  timeDeltas: z.array(z.number()),
});

export interface SelfTime {
  what: string;
  /** Share of the time in which the process did anything, 0 to 1. */
  share: number;
}

/** Functions by their own time, most first. Waiting for work is left out. */
export function selfTimes(json: string): SelfTime[] {
  const { nodes, samples, timeDeltas } = CpuProfile.parse(JSON.parse(json));
  const names = new Map(nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  const times = new Map<string, number>();
  let busy = 0;
  for (const [n, id] of samples.entries()) {
    const name = names.get(id)!;
    if (name === '(idle)') continue;
    const time = timeDeltas[n] ?? 0;
    busy += time;
    times.set(name, (times.get(name) ?? 0) + time);
  }
  return [...times].map(([what, time]) => ({ what, share: time / busy })).sort((a, b) => b.share - a.share);
}

function nameOf({ functionName, url, lineNumber }: { functionName: string; url: string; lineNumber: number }): string {
  if (url === '') return functionName;
  const file = url.startsWith('node:') ? url : basename(url.startsWith('file:') ? fileURLToPath(url) : url);
  return `${functionName || '(anonymous)'} ${file}:${lineNumber + 1}`;
}

/** The functions that took most, and what each file took, as lines to read. */
export function profileReport(folder: string, most = 25): string {
  const file = readdirSync(folder).find((name) => name.endsWith('.cpuprofile'));
  if (file === undefined) return `no profile was written to ${folder}`;
  const all = selfTimes(readFileSync(join(folder, file), 'utf8'));
  const files = new Map<string, number>();
  for (const { what, share } of all) {
    const of = what.includes(' ') ? what.slice(what.lastIndexOf(' ') + 1).replace(/:\d+$/, '') : what;
    files.set(of, (files.get(of) ?? 0) + share);
  }
  const line = (what: string, share: number) => `${(share * 100).toFixed(1).padStart(5)} %  ${what}`;
  const byFile = [...files].sort((a, b) => b[1] - a[1]).slice(0, most);
  return [
    `${join(folder, file)}, time of its own by function:`,
    ...all.slice(0, most).map(({ what, share }) => line(what, share)),
    'by file:',
    ...byFile.map(([what, share]) => line(what, share)),
  ].join('\n');
}
