/** The audit log: who changed what. */
import { AuditQuery } from '#contract/tenancy.ts';
import { type ApiDependencies, Router } from './env.ts';
import { checkedQuery } from './input.ts';
import { response, responses } from './schemas.ts';

/** Entries in an answer, where the query does not say. */
const DEFAULT_LIMIT = 100;

export function auditRoutes(dependencies: ApiDependencies): Router {
  const { audit } = dependencies;
  return new Router(dependencies).add(
    {
      method: 'get',
      path: '/v1/audit',
      operationId: 'listAudit',
      summary: 'Changes, and attempts at them, in the namespaces of the caller; the newest first',
      access: { namespace: 'filtered', scope: 'read' },
      request: { query: AuditQuery },
      responses: responses({ 200: response('The entries.', 'AuditList') }),
    },
    async (c) => {
      const { limit = DEFAULT_LIMIT, ...query } = checkedQuery(c, AuditQuery);
      return c.json({ entries: await audit.list(c.get('principal'), { ...query, limit }) });
    },
  );
}
