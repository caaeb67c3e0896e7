/**
 * Messages of a Redis stream, by a group of consumers. An entry that was read stays in the group's list of pending ones, under
 * the name of who read it, until it is acknowledged; who does not touch it for CLAIM_AFTER_MS loses it to another.
 *
 * Acknowledging, touching and releasing are scripts: each looks first whose the entry is by now. A process that was frozen for
 * longer than that and goes on therefore acknowledges nothing that another one works on.
 */
import type { TriggerOf } from '#contract/trigger.ts';
import { type RedisArgument, RedisConnection, type Script, asList, asNumber, asText, script } from '../redis-connection.ts';
import type { OpenSource, Source, SourceMessage, SourceOptions } from '../types.ts';
import { type Entry, readEntries, toMessage } from './entry.ts';

/** After so long without a touch an entry is anybody's. */
const CLAIM_AFTER_MS = 30_000;
/** XREADGROUP waits no longer in one go: between two of them abandoned entries are looked for. */
const BLOCK_MS = 1_000;
/** Entries of one command, at most. */
const MAX_READ = 1_000;
const MAX_IDS = 500;
/** Where released entries are kept until somebody claims them. */
const NOBODY = 'fn:released';
/** Consumers that have not been seen for so long are removed from the group, where nothing of theirs is pending. */
const SWEEP_AFTER_MS = 86_400_000;

/** ids → [how many were acknowledged, how many are another's]. One that is pending with nobody was acknowledged before. */
const ACK = script(`
local mine, others = {}, 0
for i = 3, #ARGV do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if pending[1] then
    if pending[1][2] == ARGV[2] then mine[#mine + 1] = ARGV[i] else others = others + 1 end
  end
end
if #mine > 0 then redis.call('XACK', KEYS[1], ARGV[1], unpack(mine)) end
return {#mine, others}`);

/** As if it had been read just now. The count of deliveries stays. */
const TOUCH = script(`
local touched = 0
for i = 3, #ARGV do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if pending[1] and pending[1][2] == ARGV[2] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', 0, 'JUSTID')
    touched = touched + 1
  end
end
return touched`);

/** Anybody's at once, and as if this delivery had not been. */
const RELEASE = script(`
for i = 4, #ARGV do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if pending[1] and pending[1][2] == ARGV[2] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], '${NOBODY}', 0, ARGV[i], 'IDLE', ARGV[3], 'RETRYCOUNT', math.max(0, pending[1][4] - 1), 'JUSTID')
  end
end
return 1`);

/** Consumers that are gone: nothing pending, and not seen for ARGV[2] ms. */
const SWEEP = script(`
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local is = {}
  for i = 1, #consumer, 2 do is[consumer[i]] = consumer[i + 1] end
  if is.pending == 0 and is.idle > tonumber(ARGV[2]) then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], is.name) end
end
return 1`);

/** A consumer that still has pending entries must stay: they would be lost with it. */
const LEAVE = script(`
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if pending[1] then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1`);

type Options = SourceOptions<TriggerOf<'redis-stream'>>;

export interface StreamTimes {
  /** After so long without a touch an entry is anybody's, ms. */
  claimAfterMs?: number;
}

const said = (error: unknown, word: string): boolean => error instanceof Error && error.message.includes(word);
/** The stream was deleted, the group removed, or the server came back empty: it is made again, and nothing of before is pending. */
const isGone = (error: unknown): boolean => said(error, 'NOGROUP') || said(error, 'UNBLOCKED') || said(error, 'no such key');

class RedisStreamSource implements Source {
  readonly touchEveryMs: number;
  readonly #claimAfterMs: number;
  readonly #options: Options;
  readonly #stream: string;
  readonly #group: string;
  readonly #consumer: string;
  /** Waits for entries; nothing else goes over it. */
  readonly #reader: RedisConnection;
  readonly #commands: RedisConnection;
  /** Ids of entries that the caller has. A CloudEvent that came by the stream has an id of its own, so they are kept beside. */
  readonly #held = new Set<string>();
  readonly #entryIds = new WeakMap<SourceMessage, string>();
  /** The newest entry that was read: where a group that was removed begins again. */
  #last: string | null = null;
  #grouped = false;
  /** A reading broke off: entries may have been given to us that never arrived. */
  #reread = false;
  #lookAt = 0;
  #cursor = '0-0';
  #closing: Promise<void> | null = null;

  constructor(options: Options, { claimAfterMs = CLAIM_AFTER_MS }: StreamTimes) {
    this.#claimAfterMs = claimAfterMs;
    this.touchEveryMs = claimAfterMs / 4;
    const { trigger, namespace, name, consumer, resolve } = options;
    this.#options = options;
    this.#stream = trigger.stream;
    this.#group = trigger.group ?? `fn:${namespace}:${name}:${trigger.name}`;
    this.#consumer = consumer;
    const connection = { url: trigger.url, resolve, clientName: `fn-${namespace}-${name}-${trigger.name}` };
    this.#reader = new RedisConnection(connection);
    this.#commands = new RedisConnection(connection);
  }

  async receive(max: number, waitMs: number, signal: AbortSignal): Promise<SourceMessage[]> {
    const { clock } = this.#options;
    const end = clock.now() + waitMs;
    while (!signal.aborted && this.#closing === null) {
      try {
        const messages = await this.#next(Math.min(max, MAX_READ), Math.max(0, end - clock.now()), signal);
        if (signal.aborted) this.#putBack(messages);
        else if (messages.length > 0 || clock.now() >= end) return messages;
      } catch (error) {
        if (signal.aborted || this.#closing !== null) return [];
        // Entries may have been given to us that never arrived.
        this.#reread = true;
        if (!isGone(error)) throw error;
        this.#grouped = false;
        this.#cursor = '0-0';
      }
    }
    return [];
  }

  async ack(messages: readonly SourceMessage[]): Promise<void> {
    let others = 0;
    for (const ids of this.#chunks(messages)) {
      const [, theirs] = asList((await this.#script(ACK, ids)) ?? [0, 0]);
      for (const id of ids) this.#held.delete(id);
      others += asNumber(theirs);
    }
    if (others > 0) throw new Error(`${others} of ${messages.length} entries had been given to another consumer, who does them again`);
  }

  async release(messages: readonly SourceMessage[]): Promise<void> {
    for (const ids of this.#chunks(messages)) {
      await this.#script(RELEASE, [this.#claimAfterMs, ...ids]);
      for (const id of ids) this.#held.delete(id);
    }
    this.#lookAt = 0;
  }

  async touch(messages: readonly SourceMessage[]): Promise<void> {
    for (const ids of this.#chunks(messages)) await this.#script(TOUCH, ids);
  }

  /** Entries that the group has not read. Redis 7 tells; before it, and where entries were deleted, they are counted up to MAX_READ. */
  async lag(): Promise<number | null> {
    try {
      const info = await this.#info();
      if (info === null || info.lag !== null) return info?.lag ?? 0;
      return asList(await this.#commands.call('XRANGE', this.#stream, `(${info.last}`, '+', 'COUNT', MAX_READ)).length;
    } catch (error) {
      if (isGone(error)) return 0;
      throw error;
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#reader.close();
    try {
      // Also those that the reader was given and never saw.
      const pending = await this.#pending();
      for (let at = 0; at < pending.length; at += MAX_IDS)
        await this.#script(RELEASE, [this.#claimAfterMs, ...pending.slice(at, at + MAX_IDS)]);
      await this.#script(LEAVE, []);
    } catch (error) {
      if (isGone(error)) return;
      // They are anybody's after a while; nothing is lost.
      this.#options.log.warn({ error: String(error) }, 'pending entries of a stream could not be given back');
    } finally {
      this.#commands.close();
      this.#held.clear();
    }
  }

  /** A script on the group, for us. null: there is no group any more, so nothing is pending in it. */
  async #script(script: Script, args: readonly RedisArgument[]): Promise<unknown> {
    try {
      return await this.#commands.run(script, [this.#stream], [this.#group, this.#consumer, ...args]);
    } catch (error) {
      if (isGone(error)) return null;
      throw error;
    }
  }

  /** Messages from the first of these that has some: our own that never arrived, abandoned ones, new ones. */
  async #next(max: number, waitMs: number, signal: AbortSignal): Promise<SourceMessage[]> {
    await this.#ensureGroup();
    if (this.#reread) {
      const own = await this.#own(max);
      if (own.length > 0) return this.#again(own);
      this.#reread = false;
    }
    const { clock } = this.#options;
    if (clock.now() >= this.#lookAt) {
      const abandoned = await this.#abandoned(max);
      if (abandoned.length > 0) return this.#again(abandoned);
    }
    const fresh = await this.#fresh(max, Math.min(waitMs, BLOCK_MS), signal);
    this.#last = fresh.at(-1)?.id ?? this.#last;
    return this.#take(fresh, null);
  }

  async #ensureGroup(): Promise<void> {
    if (this.#grouped) return;
    const there = asNumber(await this.#commands.call('EXISTS', this.#stream)) === 1;
    // Of a stream that was deleted and is there anew, all is new to us.
    if (!there && this.#last !== null) this.#last = '0-0';
    const from = this.#last ?? (this.#options.trigger.startFrom === 'beginning' ? '0-0' : '$');
    try {
      await this.#commands.call('XGROUP', 'CREATE', this.#stream, this.#group, from, 'MKSTREAM');
    } catch (error) {
      if (!said(error, 'BUSYGROUP')) throw error;
    }
    this.#last = (await this.#info())?.last ?? '0-0';
    await this.#commands.run(SWEEP, [this.#stream], [this.#group, SWEEP_AFTER_MS]);
    this.#grouped = true;
    // Under this name there may be what an earlier connection was given.
    this.#reread = true;
  }

  /** Of the group. null: there is none. */
  async #info(): Promise<{ last: string; lag: number | null } | null> {
    for (const group of asList(await this.#commands.call('XINFO', 'GROUPS', this.#stream))) {
      const fields = pairs(group);
      if (asText(fields.get('name')) !== this.#group) continue;
      const lag = fields.get('lag');
      return { last: asText(fields.get('last-delivered-id')), lag: lag === undefined || lag === null ? null : asNumber(lag) };
    }
    return null;
  }

  async #fresh(max: number, waitMs: number, signal: AbortSignal): Promise<Entry[]> {
    // BLOCK 0 is for ever.
    const block = waitMs < 1 ? [] : ['BLOCK', Math.ceil(waitMs)];
    const hangUp = () => this.#reader.drop();
    signal.addEventListener('abort', hangUp, { once: true });
    try {
      const args = ['GROUP', this.#group, this.#consumer, 'COUNT', max, ...block, 'STREAMS', this.#stream, '>'];
      return firstStream(await this.#reader.block(waitMs, 'XREADGROUP', ...args));
    } finally {
      signal.removeEventListener('abort', hangUp);
    }
  }

  /** Entries under our name that the caller does not have. */
  async #own(max: number): Promise<Entry[]> {
    const ids = (await this.#pending()).filter((id) => !this.#held.has(id)).slice(0, max);
    const entries = await Promise.all(
      ids.map(async (id) => {
        const [entry] = readEntries(asList(await this.#commands.call('XRANGE', this.#stream, id, id)));
        // Deleted meanwhile (XDEL, MAXLEN): there is nothing to be done for it.
        if (entry === undefined) await this.#commands.call('XACK', this.#stream, this.#group, id);
        return entry;
      }),
    );
    return entries.filter((entry) => entry !== undefined);
  }

  /** All ids that are pending under our name. */
  async #pending(): Promise<string[]> {
    const ids: string[] = [];
    for (let from = '-'; ;) {
      const some = asList(await this.#commands.call('XPENDING', this.#stream, this.#group, from, '+', MAX_READ, this.#consumer));
      for (const one of some) ids.push(asText(asList(one)[0]));
      if (some.length < MAX_READ) return ids;
      from = `(${ids.at(-1)!}`;
    }
  }

  /** Takes over what nobody has touched for CLAIM_AFTER_MS. */
  async #abandoned(max: number): Promise<Entry[]> {
    const { clock } = this.#options;
    const args = [this.#stream, this.#group, this.#consumer, this.#claimAfterMs, this.#cursor, 'COUNT', max];
    const [cursor, entries] = asList(await this.#commands.call('XAUTOCLAIM', ...args));
    this.#cursor = asText(cursor);
    // Once round; then again after a while.
    if (this.#cursor === '0-0') this.#lookAt = clock.now() + BLOCK_MS;
    // What the caller has and was too late to touch is his still.
    return readEntries(asList(entries)).filter(({ id }) => !this.#held.has(id));
  }

  /** Of entries that were delivered before, as the group knows. */
  async #again(entries: readonly Entry[]): Promise<SourceMessage[]> {
    return this.#take(entries, await this.#deliveries(entries));
  }

  /** Nobody took them: they are read again by the next receive, or given back by close. */
  #putBack(messages: readonly SourceMessage[]): void {
    for (const message of messages) this.#held.delete(this.#entryIds.get(message)!);
    this.#reread = true;
  }

  #take(entries: readonly Entry[], counts: ReadonlyMap<string, number> | null): SourceMessage[] {
    const origin = `${this.#reader.address}/${encodeURIComponent(this.#stream)}`;
    return entries.map((entry) => {
      const message = toMessage(entry, { origin, field: this.#options.trigger.field, deliveries: counts?.get(entry.id) ?? 1 });
      this.#held.add(entry.id);
      this.#entryIds.set(message, entry.id);
      return message;
    });
  }

  /** How often each was delivered. Asked in one go where they lie close together, as they nearly always do. */
  async #deliveries(entries: readonly Entry[]): Promise<Map<string, number>> {
    const first = entries[0]!.id;
    const last = entries.at(-1)!.id;
    const counts = new Map<string, number>();
    const pending = asList(
      await this.#commands.call('XPENDING', this.#stream, this.#group, first, last, this.#held.size + entries.length, this.#consumer),
    );
    for (const one of pending) {
      const [id, , , count] = asList(one);
      counts.set(asText(id), asNumber(count));
    }
    return counts;
  }

  *#chunks(messages: readonly SourceMessage[]): Generator<string[]> {
    const ids = messages.map((message) => this.#entryIds.get(message)).filter((id) => id !== undefined);
    for (let at = 0; at < ids.length; at += MAX_IDS) yield ids.slice(at, at + MAX_IDS);
  }
}

function firstStream(answer: unknown): Entry[] {
  if (answer === null) return [];
  const [stream] = asList(answer);
  return readEntries(asList(asList(stream)[1]));
}

/** Names and values, one after the other. */
function pairs(value: unknown): Map<string, unknown> {
  const flat = asList(value);
  const fields = new Map<string, unknown>();
  for (let index = 0; index + 1 < flat.length; index += 2) fields.set(asText(flat[index]), flat[index + 1]);
  return fields;
}

/** Opens the source of a trigger of type redis-stream, which connects when it is first used; with times of its own for a test. */
export const openStream = (options: Options, times: StreamTimes = {}): Source => new RedisStreamSource(options, times);
export const openSource: OpenSource<TriggerOf<'redis-stream'>> = async (options) => openStream(options);
