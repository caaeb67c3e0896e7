/** What to do about a call: what the registry says, and what the evidence adds to it. Pure. */
import { type CallRecord, wasCold, type Why } from '#contract/call.ts';
import type { LogEntry } from '#contract/log.ts';
import { entryOf, errorOf, type Evidence, ms, startPhases } from './evidence.ts';

/** A start that is longer than this is worth a word, ms. */
const LONG_START_MS = 500;
/** So is a wait for a slot of an instance that was there. */
const LONG_WAIT_MS = 100;

/** Sentences, the most useful first. */
export function adviceFor(evidence: Evidence, fault: Why['fault']): string[] {
  const { call } = evidence;
  const entry = entryOf(call);
  const advice = [
    ...(BY_CODE[call.code ?? '']?.(evidence) ?? []),
    ...(entry === null ? [] : [REMEDY_HERE[call.code ?? '']?.(call) ?? entry.remedy]),
  ];
  if (entry === null && fault === 'function') advice.push(...placeOfError(evidence), seeLogs(call));
  advice.push(...aboutStart(evidence), ...aboutTries(call));
  if (evidence.dropped > 0) advice.push(`${evidence.dropped} log lines were dropped around that time: the log below may not be all of it.`);
  return advice;
}

const BY_CODE: Readonly<Record<string, (evidence: Evidence) => string[]>> = {
  'function-oom': outOfMemory,
  'function-timeout': overran,
  'function-error': placeOfError,
  'function-crashed': (evidence) => [...lastNote(evidence), ...placeOfError(evidence)],
  'function-init-failed': placeOfError,
  'instance-lost': lastNote,
  'too-many-requests': tooMany,
  'queue-full': tooMany,
  'queue-timeout': tooMany,
};

const seeLogs = ({ name, id }: CallRecord): string => `See \`fn logs ${name} --request ${id}\`.`;

/** In place of the registry's, where that sends its reader to `fn why`, which is what is being read. */
const REMEDY_HERE: Readonly<Record<string, (call: CallRecord) => string>> = {
  'function-error': seeLogs,
  'function-crashed': (call) => `${seeLogs(call)} The next request gets another instance.`,
  'function-oom': () => 'Deploy with more --memory, or use less.',
  'function-init-failed': ({ name }) => `See \`fn logs ${name}\`, and deploy a corrected version.`,
  'function-bad-response': seeLogs,
  'function-timeout': () => 'Make it faster, or deploy with a longer --timeout.',
  'instance-lost': () => 'Try again; the request may have run.',
  'queue-timeout': () => 'Try again; raise max or the budget if it happens often.',
};

function outOfMemory({ revision, notes, call }: Evidence): string[] {
  if (revision === null) return lastNote({ notes });
  const { memoryMib } = revision.settings;
  const peak = notes.map(({ msg }) => /peak (?:of )?(\d+) MiB/.exec(msg)?.[1]).find((found) => found !== undefined);
  const used = peak === undefined ? 'it used all of it' : `its peak was ${peak} MiB`;
  return [
    `It had ${memoryMib} MiB, and ${used}: deploy ${call.name} with --memory ${Math.min(8_192, memoryMib * 2)}, or hold less at a time.`,
  ];
}

function overran({ call, logs, revision }: Evidence): string[] {
  const advice: string[] = [];
  const limit = revision === null ? '' : ` of ${revision.settings.timeoutSeconds} s`;
  if (call.streamMs === undefined) advice.push(`All of the timeout${limit} passed before the function began to answer.`);
  else
    advice.push(
      `It began to answer after ${ms(call.handlerMs ?? 0)}, and was still writing when the timeout${limit} was over: stream faster, or answer in parts.`,
    );
  const last = logs.at(-1);
  if (last === undefined) advice.push('It logged nothing for this request: a line before each slow step would show where it hangs.');
  else advice.push(`The last that it logged, ${ms(Math.max(0, last.t - call.t))} after the request came, was: ${firstLine(last)}`);
  return advice;
}

function tooMany({ call, revision }: Evidence): string[] {
  if (revision === null) return [];
  const { max, concurrency } = revision.settings;
  return [`${call.name} works on at most ${max * concurrency} requests at a time: max ${max} × concurrency ${concurrency}.`];
}

/** Where in its source the function failed, as far as a stack tells that it, else the platform, logged. */
function placeOfError(evidence: Pick<Evidence, 'call' | 'logs' | 'notes'>): string[] {
  const notes = evidence.notes.filter(({ level }) => level === 'error').toReversed();
  for (const entry of [errorOf(evidence), ...notes]) {
    const place = entry === null ? null : placeIn(entry.msg);
    if (place !== null) return [`It failed at ${place}.`];
  }
  return [];
}

/** The innermost call of a stack that is in the function's own code: `handler.ts:3:9`. */
export function placeIn(text: string): string | null {
  const frames = text.split('\n').map((line) => /^\s*at (?:.*\()?((?!node:)[^()\s]+\.[cm]?[jt]sx?:\d+(?::\d+)?)\)?\s*$/.exec(line)?.[1]);
  const own = frames.find((place) => place !== undefined && !place.includes('node_modules/'));
  if (own !== undefined) return own.replace(/^file:\/\//, '');
  // Python has the innermost last.
  const python = [...text.matchAll(/^\s*File "([^"<>]+)", line (\d+)/gm)].findLast(([, file]) => !file!.includes('site-packages'));
  return python === undefined ? null : `${python[1]}:${python[2]}`;
}

function lastNote({ notes }: Pick<Evidence, 'notes'>): string[] {
  const last = notes.findLast(({ level }) => level === 'error');
  return last === undefined ? [] : [`The platform says: ${firstLine(last)}`];
}

function aboutStart({ call, revision }: Evidence): string[] {
  const { start, queueMs = 0 } = call;
  if (start === undefined || !wasCold(call)) {
    const long = queueMs >= LONG_WAIT_MS && call.code === undefined;
    return long ? [`It waited ${ms(queueMs)} for a slot: raise max or concurrency, or keep more instances with --min.`] : [];
  }
  const parts = startPhases(start, queueMs);
  if (parts.start + parts.init < LONG_START_MS) return [];
  const advice: string[] = [];
  if (start.kind === 'full') advice.push('No generic instance was ready: raise the pool (fn up --pool) where starts come in bursts.');
  if (parts.init >= LONG_START_MS / 2)
    advice.push(`Loading the code took ${ms(parts.init)}: load less at the top of the module, or bundle it smaller.`);
  if (revision === null || revision.settings.min === 0) advice.push(`An instance that is always ready has no start to wait for: --min 1.`);
  return advice;
}

function aboutTries({ tries = [] }: CallRecord): string[] {
  if (tries.length === 0) return [];
  return [
    `It was sent to ${tries.length} other ${tries.length === 1 ? 'instance' : 'instances'} before, which did not take it: ${tries.map(({ instance, why }) => `${instance} (${why})`).join(', ')}.`,
  ];
}

const firstLine = ({ msg }: LogEntry): string => (msg.split('\n')[0] ?? '').trim().slice(0, 300);
