/** Namespaces, tokens, secrets, the audit log and who uploaded what, in SQLite. */
import type { SQLOutputValue } from 'node:sqlite';
import { AuditEntry, NamespaceSettings, TokenView } from '#contract/tenancy.ts';
import { parseJson, readable, readToken, tokenIsThere } from '../stored.ts';
import type { ArtifactKind, SealedSecret, TenancyStore, TokenRecord } from '../types.ts';
import type { Connection } from './connection.ts';
import { isConstraint } from './errors.ts';

type Row = Record<string, SQLOutputValue>;

export class SqliteTenancy implements TenancyStore {
  protected readonly connection: Connection;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  #all(sql: string, ...parameters: (string | number | null)[]): Row[] {
    return this.connection.run(() => this.connection.prepare(sql).all(...parameters));
  }

  async listNamespaces(): Promise<{ name: string; settings: NamespaceSettings }[]> {
    return this.#all('SELECT name, settings FROM namespaces ORDER BY name').map((row) => ({
      name: String(row.name),
      settings: readable(NamespaceSettings.safeParse(parseJson(String(row.settings))), `namespace ${String(row.name)}`),
    }));
  }

  async putNamespace(name: string, settings: NamespaceSettings): Promise<void> {
    const text = JSON.stringify(NamespaceSettings.parse(settings));
    const sql = 'INSERT INTO namespaces (name, settings) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET settings = excluded.settings';
    this.connection.write(() => this.connection.prepare(sql).run(name, text));
  }

  async deleteNamespace(name: string): Promise<boolean> {
    return this.connection.write(() => Number(this.connection.prepare('DELETE FROM namespaces WHERE name = ?').run(name).changes) > 0);
  }

  async addToken(token: TokenRecord): Promise<void> {
    const { sha256, revokedAt, ...view } = token;
    const body = JSON.stringify(TokenView.parse({ ...view, revokedAt: null }));
    const sql = 'INSERT INTO tokens (id, sha256, body, created_at, revoked_at) VALUES (?, ?, ?, ?, ?)';
    try {
      this.connection.write(() => this.connection.prepare(sql).run(token.id, sha256, body, token.createdAt, revokedAt));
    } catch (error) {
      if (isConstraint(error)) throw tokenIsThere(token.id);
      throw error;
    }
  }

  async listTokens(): Promise<TokenRecord[]> {
    return this.#all('SELECT * FROM tokens ORDER BY created_at DESC, seq DESC').map(tokenOf);
  }

  async revokeToken(id: string, at: number): Promise<TokenRecord | null> {
    return this.connection.write(() => {
      const sql = 'UPDATE tokens SET revoked_at = coalesce(revoked_at, ?) WHERE id = ? RETURNING *';
      const row = this.connection.prepare(sql).get(at, id);
      return row === undefined ? null : tokenOf(row);
    });
  }

  async reserveSecretVersion(namespace: string, name: string): Promise<number> {
    const sql = `INSERT INTO secret_versions (namespace, name, last) VALUES (?, ?, 1)
      ON CONFLICT (namespace, name) DO UPDATE SET last = last + 1 RETURNING last`;
    return this.connection.write(() => Number(this.connection.prepare(sql).get(namespace, name)?.last));
  }

  async putSecret({ namespace, name, version, updatedAt, sealed }: SealedSecret): Promise<void> {
    const sql = `INSERT INTO secrets (namespace, name, version, updated_at, sealed) VALUES (?, ?, ?, ?, ?)
      ON CONFLICT (namespace, name) DO UPDATE SET version = excluded.version, updated_at = excluded.updated_at, sealed = excluded.sealed
      WHERE excluded.version > version`;
    this.connection.write(() => this.connection.prepare(sql).run(namespace, name, version, updatedAt, sealed));
  }

  async getSecret(namespace: string, name: string): Promise<SealedSecret | null> {
    const [row] = this.#all('SELECT * FROM secrets WHERE namespace = ? AND name = ?', namespace, name);
    return row === undefined ? null : readSecret(row);
  }

  async listSecrets(namespace?: string): Promise<SealedSecret[]> {
    const sql = 'SELECT * FROM secrets WHERE ?1 IS NULL OR namespace = ?1 ORDER BY namespace, name';
    return this.#all(sql, namespace ?? null).map(readSecret);
  }

  async deleteSecret(namespace: string, name: string): Promise<boolean> {
    const sql = 'DELETE FROM secrets WHERE namespace = ? AND name = ?';
    return this.connection.write(() => Number(this.connection.prepare(sql).run(namespace, name).changes) > 0);
  }

  async addAudit(entry: Omit<AuditEntry, 'id'>): Promise<AuditEntry> {
    const { t, namespace } = entry;
    return this.connection.write(() => {
      const body = JSON.stringify(entry);
      const row = this.connection.prepare('INSERT INTO audit (t, namespace, body) VALUES (?, ?, ?) RETURNING id').get(t, namespace, body);
      return { ...entry, id: Number(row?.id) };
    });
  }

  async listAudit(query: { namespaces: '*' | readonly string[]; since?: number; before?: number; limit: number }): Promise<AuditEntry[]> {
    const namespaces = query.namespaces === '*' ? null : JSON.stringify(query.namespaces);
    const sql = `SELECT id, body FROM audit
      WHERE (?1 IS NULL OR namespace IN (SELECT value FROM json_each(?1))) AND (?2 IS NULL OR t >= ?2) AND (?3 IS NULL OR id < ?3)
      ORDER BY id DESC LIMIT ?4`;
    return this.#all(sql, namespaces, query.since ?? null, query.before ?? null, query.limit).map((row) => {
      const stored = parseJson(String(row.body));
      const entry = typeof stored === 'object' ? { ...stored, id: Number(row.id) } : stored;
      return readable(AuditEntry.safeParse(entry), `audit entry ${String(row.id)}`);
    });
  }

  async pruneAudit(keep: number): Promise<number> {
    const sql = 'DELETE FROM audit WHERE id <= (SELECT id FROM audit ORDER BY id DESC LIMIT 1 OFFSET ?)';
    return this.connection.write(() => Number(this.connection.prepare(sql).run(keep).changes));
  }

  async addArtifact(namespace: string, kind: ArtifactKind, digest: string, at: number): Promise<void> {
    const sql = `INSERT INTO artifacts (namespace, kind, digest, added_at) VALUES (?, ?, ?, ?)
      ON CONFLICT DO UPDATE SET added_at = max(added_at, excluded.added_at)`;
    this.connection.write(() => this.connection.prepare(sql).run(namespace, kind, digest, at));
  }

  async hasArtifact(namespace: string, kind: ArtifactKind, digest: string): Promise<boolean> {
    return this.#all('SELECT 1 FROM artifacts WHERE namespace = ? AND kind = ? AND digest = ?', namespace, kind, digest).length > 0;
  }

  async listArtifacts(kind: ArtifactKind): Promise<{ namespace: string; digest: string; addedAt: number }[]> {
    const sql = 'SELECT namespace, digest, added_at FROM artifacts WHERE kind = ? ORDER BY namespace, digest';
    return this.#all(sql, kind).map((row) => ({
      namespace: String(row.namespace),
      digest: String(row.digest),
      addedAt: Number(row.added_at),
    }));
  }

  async removeArtifact(namespace: string, kind: ArtifactKind, digest: string, before: number): Promise<boolean> {
    const sql = 'DELETE FROM artifacts WHERE namespace = ? AND kind = ? AND digest = ? AND added_at < ?';
    return this.connection.write(() => Number(this.connection.prepare(sql).run(namespace, kind, digest, before).changes) > 0);
  }
}

const tokenOf = (row: Row): TokenRecord =>
  readToken(String(row.id), String(row.body), String(row.sha256), row.revoked_at === null ? null : Number(row.revoked_at));

function readSecret(row: Row): SealedSecret {
  const { sealed } = row;
  const namespace = String(row.namespace);
  const name = String(row.name);
  if (!(sealed instanceof Uint8Array)) return readable({ success: false }, `secret ${namespace}/${name}`);
  return { namespace, name, version: Number(row.version), updatedAt: Number(row.updated_at), sealed };
}
