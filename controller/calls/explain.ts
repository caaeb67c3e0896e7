/** What a record, the log and the settings of a revision say about one call, in words. Pure. */
import { answerMs, type CallRecord, type ColdReason, wasCold, type Why } from '#contract/call.ts';
import { revisionLabel } from '#contract/names.ts';
import { adviceFor } from './advice.ts';
import { entryOf, errorOf, type Evidence, ms, startPhases } from './evidence.ts';

const COLD_REASONS: Record<ColdReason, string> = {
  'scaled-to-zero': 'none was running: it had scaled to zero, or was never called',
  burst: 'all slots of the instances that ran were taken',
  'new-revision': 'it was the first start of this revision',
  replaced: 'the instance before it had died',
};

export function explain(evidence: Evidence): Why {
  const { call, logs, notes, dropped, others } = evidence;
  const fault = faultOf(evidence);
  return {
    call,
    phases: phasesOf(call),
    temperature: temperatureOf(call),
    fault,
    summary: summaryOf(evidence),
    advice: adviceFor(evidence, fault),
    instance: call.instance === undefined ? null : { id: call.instance, notes: [...notes] },
    logs: [...logs],
    dropped,
    others,
  };
}

const CODE_CACHE = { none: '', hit: ', from its code cache', made: ', and made a code cache of it' } as const;

function phasesOf(call: CallRecord): Why['phases'] {
  const phases: Why['phases'] = [];
  const add = (name: string, ms: number | undefined, note: string) => {
    if (ms !== undefined) phases.push({ name, ms, note });
  };
  add('body', call.bodyMs, 'the request’s body arrived');
  const { start, queueMs } = call;
  if (start !== undefined && wasCold(call) && queueMs !== undefined) {
    const parts = startPhases(start, queueMs);
    add('queue', parts.queue, 'it waited for its turn');
    if (start.kind === 'full') add('start', parts.start, 'an instance was created');
    add('init', parts.init, `the instance was given its code and loaded it${CODE_CACHE[start.codeCache ?? 'none']}`);
  } else add('queue', queueMs, start === undefined ? 'it waited for a slot' : 'it waited for a slot of an instance that was ready');
  const answered = call.streamMs !== undefined;
  add('handler', call.handlerMs, answered ? 'the function worked until the head of its answer' : 'the function worked; no answer came');
  add('stream', call.streamMs, call.stream === 'websocket' ? 'the WebSocket was open' : 'the body of the answer was passed on');
  return phases;
}

function temperatureOf(call: CallRecord): string {
  const { start, instance, queueMs = 0 } = call;
  if (start !== undefined && wasCold(call)) {
    const how = start.kind === 'pooled' ? 'cold, pooled: a generic instance was given the code' : 'cold, full: an instance was created';
    return start.reason === undefined ? how : `${how}, as ${COLD_REASONS[start.reason]}`;
  }
  if (instance === undefined) return 'it reached no instance';
  if (start?.prewarmed === true) return 'warm: an instance had been brought up for it, by when the function was used before';
  return queueMs >= 5 ? `warm, after ${ms(queueMs)} of waiting for a slot` : 'warm: an instance had a free slot';
}

function faultOf({ call }: Evidence): Why['fault'] {
  const entry = entryOf(call);
  if (entry !== null) return entry.fault;
  if (call.aborted === true) return 'caller';
  return call.status >= 500 ? 'function' : 'none';
}

function summaryOf(evidence: Evidence): string {
  const { call } = evidence;
  const who = call.revision === undefined ? call.name : revisionLabel(call.revision);
  const took = ms(call.totalMs);
  const entry = entryOf(call);
  if (entry !== null) {
    const status = call.status === 0 ? 'The connection was cut' : `Answered with ${call.status}`;
    return `${status} after ${took}: ${lower(entry.title)} (${call.code})${call.detail === undefined ? '' : `: ${call.detail}`}`;
  }
  if (call.aborted === true && call.event !== undefined)
    return `The event (${call.event}) was called off after ${took}, before ${who} had finished: it was cancelled, or its trigger ended.`;
  if (call.aborted === true) return `The client went away after ${took}, before ${who} had finished.`;
  if (call.status >= 500) {
    const said = firstLineOfError(evidence);
    return `${who} answered${eventOf(call)} with ${call.status} by itself after ${took}${said === null ? '.' : `: ${said}`}`;
  }
  const waited = call.queueMs ?? 0;
  const cold = wasCold(call) && waited > answerMs(call) / 2 ? ', most of it for a start' : '';
  // A preflight, a webhook; with 202 the function gets it later, under another id.
  if (call.instance === undefined) {
    const what = call.status === 202 ? 'Accepted to be answered later' : `Answered with ${call.status} by the platform`;
    return `${what}, for ${who}, in ${took}.`;
  }
  return `${who} answered${eventOf(call)} with ${call.status} in ${ms(answerMs(call))}${cold}.`;
}

const eventOf = ({ event }: Why['call']): string => (event === undefined ? '' : ` to an event (${event})`);

/** First line of the error that it ended with. */
function firstLineOfError(evidence: Evidence): string | null {
  const line = errorOf(evidence)?.msg.split('\n')[0]?.trim();
  return line === undefined || line === '' ? null : line.slice(0, 300);
}

const lower = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);
