/**
 * Namespaces, tokens, secrets and who uploaded what, in Redis:
 *
 *     namespaces        hash NS → settings (JSON)
 *     tokens            list of ids, in the order in which they were added
 *     token:ID          hash: body (JSON), sha256, revoked-at
 *     token-hashes      hash SHA-256 → id
 *     secret-versions   hash NS/SECRET → last version given; outlives the secret
 *     secrets           hash NS/SECRET → `VERSION UPDATED-AT SEALED`
 *     artifacts:KIND    hash `NS DIGEST` → when it was added last
 */
import { NamespaceSettings, TokenView } from '#contract/tenancy.ts';
import { parseJson, readable, readToken, tokenIsThere } from '../stored.ts';
import type { ArtifactKind, SealedSecret, TenancyStore, TokenRecord } from '../types.ts';
import { RedisAudit } from './audit.ts';
import { asBytes, asList, asPairs, asTextOrNull, asTexts, byText } from './replies.ts';
import { defineWrite } from './term.ts';

const SET_FIELD = defineWrite(`redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])`);
const DELETE_FIELD = defineWrite(`return redis.call('HDEL', KEYS[2], ARGV[3])`);
const NEXT = defineWrite(`return redis.call('HINCRBY', KEYS[2], ARGV[3], 1)`);

/** KEYS: tokens, token, token-hashes. ARGV: id, sha256, body, revoked at ('' for not). */
const ADD_TOKEN = defineWrite(`
if redis.call('EXISTS', KEYS[3]) == 1 or redis.call('HEXISTS', KEYS[4], ARGV[4]) == 1 then return 0 end
redis.call('HSET', KEYS[3], 'sha256', ARGV[4], 'body', ARGV[5], 'revoked-at', ARGV[6])
redis.call('HSET', KEYS[4], ARGV[4], ARGV[3])
redis.call('RPUSH', KEYS[2], ARGV[3])
return 1
`);

/** KEYS: token. ARGV: at. Returns its parts as they are then. */
const REVOKE_TOKEN = defineWrite(`
if redis.call('EXISTS', KEYS[2]) == 0 then return {} end
if redis.call('HGET', KEYS[2], 'revoked-at') == '' then redis.call('HSET', KEYS[2], 'revoked-at', ARGV[3]) end
return redis.call('HMGET', KEYS[2], 'body', 'sha256', 'revoked-at')
`);

/** KEYS: secrets. ARGV: NS/SECRET, version, value. */
const PUT_SECRET = defineWrite(`
local held = redis.call('HGET', KEYS[2], ARGV[3])
local version = held and tonumber(string.match(held, '^(%d+) ')) or 0
if tonumber(ARGV[4]) > version then redis.call('HSET', KEYS[2], ARGV[3], ARGV[5]) end
`);

/** KEYS: artifacts. ARGV: field, at. */
const ADD_ARTIFACT = defineWrite(`
local held = tonumber(redis.call('HGET', KEYS[2], ARGV[3]) or '-1')
if tonumber(ARGV[4]) > held then redis.call('HSET', KEYS[2], ARGV[3], ARGV[4]) end
`);

/** KEYS: artifacts. ARGV: field, before. */
const REMOVE_ARTIFACT = defineWrite(`
local held = redis.call('HGET', KEYS[2], ARGV[3])
if not held or tonumber(held) >= tonumber(ARGV[4]) then return 0 end
return redis.call('HDEL', KEYS[2], ARGV[3])
`);

export class RedisTenancy extends RedisAudit implements TenancyStore {
  async listNamespaces(): Promise<{ name: string; settings: NamespaceSettings }[]> {
    return asPairs(await this.term.connection.call('HGETALL', this.key('namespaces')), String)
      .sort(([a], [b]) => byText(a, b))
      .map(([name, text]) => ({ name, settings: readable(NamespaceSettings.safeParse(parseJson(text)), `namespace ${name}`) }));
  }

  async putNamespace(name: string, settings: NamespaceSettings): Promise<void> {
    await this.term.write(SET_FIELD, [this.key('namespaces')], [name, JSON.stringify(NamespaceSettings.parse(settings))]);
  }

  async deleteNamespace(name: string): Promise<boolean> {
    return (await this.term.write(DELETE_FIELD, [this.key('namespaces')], [name])) === 1;
  }

  async addToken(token: TokenRecord): Promise<void> {
    const { sha256, revokedAt, ...view } = token;
    const body = JSON.stringify(TokenView.parse({ ...view, revokedAt: null }));
    const keys = [this.key('tokens'), this.key(`token:${token.id}`), this.key('token-hashes')];
    if ((await this.term.write(ADD_TOKEN, keys, [token.id, sha256, body, revokedAt ?? ''])) !== 1) throw tokenIsThere(token.id);
  }

  async listTokens(): Promise<TokenRecord[]> {
    const ids = asTexts(await this.term.connection.call('LRANGE', this.key('tokens'), 0, -1)).toReversed();
    const parts = await Promise.all(
      ids.map((id) => this.term.connection.call('HMGET', this.key(`token:${id}`), 'body', 'sha256', 'revoked-at')),
    );
    // A stable sort: of one moment, the one that was added last is first.
    return ids.map((id, index) => tokenOf(id, parts[index])).sort((a, b) => b.createdAt - a.createdAt);
  }

  async revokeToken(id: string, at: number): Promise<TokenRecord | null> {
    const parts = asList(await this.term.write(REVOKE_TOKEN, [this.key(`token:${id}`)], [at]));
    return parts.length === 0 ? null : tokenOf(id, parts);
  }

  async reserveSecretVersion(namespace: string, name: string): Promise<number> {
    return Number(await this.term.write(NEXT, [this.key('secret-versions')], [`${namespace}/${name}`]));
  }

  async putSecret({ namespace, name, version, updatedAt, sealed }: SealedSecret): Promise<void> {
    const value = Buffer.concat([Buffer.from(`${version} ${updatedAt} `), sealed]);
    await this.term.write(PUT_SECRET, [this.key('secrets')], [`${namespace}/${name}`, version, value]);
  }

  async getSecret(namespace: string, name: string): Promise<SealedSecret | null> {
    const of = `${namespace}/${name}`;
    const value = await this.term.connection.callBuffer('HGET', this.key('secrets'), of);
    return value === null ? null : secretOf(of, asBytes(value));
  }

  async listSecrets(namespace?: string): Promise<SealedSecret[]> {
    const all = asPairs(await this.term.connection.callBuffer('HGETALL', this.key('secrets')), asBytes);
    return all
      .map(([of, value]) => secretOf(of, value))
      .filter((secret) => namespace === undefined || secret.namespace === namespace)
      .sort((a, b) => byText(a.namespace, b.namespace) || byText(a.name, b.name));
  }

  async deleteSecret(namespace: string, name: string): Promise<boolean> {
    return (await this.term.write(DELETE_FIELD, [this.key('secrets')], [`${namespace}/${name}`])) === 1;
  }

  async addArtifact(namespace: string, kind: ArtifactKind, digest: string, at: number): Promise<void> {
    await this.term.write(ADD_ARTIFACT, [this.key(`artifacts:${kind}`)], [`${namespace} ${digest}`, at]);
  }

  async hasArtifact(namespace: string, kind: ArtifactKind, digest: string): Promise<boolean> {
    return (await this.term.connection.call('HEXISTS', this.key(`artifacts:${kind}`), `${namespace} ${digest}`)) === 1;
  }

  async listArtifacts(kind: ArtifactKind): Promise<{ namespace: string; digest: string; addedAt: number }[]> {
    return asPairs(await this.term.connection.call('HGETALL', this.key(`artifacts:${kind}`)), Number)
      .map(([field, addedAt]) => {
        const space = field.indexOf(' ');
        return { namespace: field.slice(0, space), digest: field.slice(space + 1), addedAt };
      })
      .sort((a, b) => byText(a.namespace, b.namespace) || byText(a.digest, b.digest));
  }

  async removeArtifact(namespace: string, kind: ArtifactKind, digest: string, before: number): Promise<boolean> {
    return (await this.term.write(REMOVE_ARTIFACT, [this.key(`artifacts:${kind}`)], [`${namespace} ${digest}`, before])) === 1;
  }
}

function tokenOf(id: string, parts: unknown): TokenRecord {
  const [body, sha256, revokedAt] = asList(parts).map(asTextOrNull);
  return readToken(id, body ?? '', sha256 ?? '', revokedAt ? Number(revokedAt) : null);
}

function secretOf(of: string, value: Buffer): SealedSecret {
  const first = value.indexOf(' ');
  const second = value.indexOf(' ', first + 1);
  const version = Number(value.toString('latin1', 0, first));
  const updatedAt = Number(value.toString('latin1', first + 1, second));
  const whole = first > 0 && second > first && Number.isSafeInteger(version) && version > 0 && Number.isFinite(updatedAt);
  const slash = of.indexOf('/');
  const secret = {
    namespace: of.slice(0, slash),
    name: of.slice(slash + 1),
    version,
    updatedAt,
    sealed: new Uint8Array(value.subarray(second + 1)),
  };
  return readable(whole ? { success: true, data: secret } : { success: false }, `secret ${of}`);
}
