/** Tokens, and who the caller is. */
import { z } from 'zod';
import { FnError } from '#contract/errors.ts';
import { TokenId } from '#contract/names.ts';
import { CreateTokenRequest, type TokenNamespaces, type WhoAmI } from '#contract/tenancy.ts';
import { note } from './audit-trail.ts';
import { type ApiDependencies, Router } from './env.ts';
import { checkedJson, checkedPath } from './input.ts';
import { jsonContent, response, responses } from './schemas.ts';

const TokenPath = z.object({ id: TokenId });

/** Whose log it belongs in: that of the one namespace it is for, else the platform's. */
const oneOf = (namespaces: TokenNamespaces): { namespace?: string } =>
  namespaces !== '*' && namespaces.length === 1 ? { namespace: namespaces[0]! } : {};

export function tokenRoutes(dependencies: ApiDependencies): Router {
  const { tenants, limits, version } = dependencies;
  return new Router(dependencies)
    .add(
      {
        method: 'get',
        path: '/v1/whoami',
        operationId: 'whoAmI',
        summary: 'Whose token this is, and what it may do',
        access: { namespace: 'filtered', scope: null },
        responses: responses({ 200: response('The caller.', 'WhoAmI') }),
      },
      (c) => c.json({ ...c.get('principal'), version } satisfies WhoAmI),
    )
    .add(
      {
        method: 'get',
        path: '/v1/tokens',
        operationId: 'listTokens',
        summary: 'Tokens that the caller could have made, the newest first; never a token itself',
        access: { namespace: 'filtered', scope: 'admin' },
        responses: responses({ 200: response('The tokens.', 'TokenList') }),
      },
      async (c) => c.json({ tokens: await tenants.listTokens(c.get('principal')) }),
    )
    .add(
      {
        method: 'post',
        path: '/v1/tokens',
        operationId: 'createToken',
        summary: 'Make a token; this answer is the one time that it is shown',
        access: { namespace: 'filtered', scope: 'admin' },
        audit: { action: 'token.create', subject: null },
        request: { body: { required: true, content: jsonContent('CreateTokenRequest') } },
        responses: responses({ 201: response('The token.', 'CreateTokenResponse') }),
      },
      async (c) => {
        const request = await checkedJson(c, CreateTokenRequest, limits);
        const { name, scopes, namespaces, expiresAt } = request;
        note(c, { ...oneOf(namespaces), subject: name, detail: { name, scopes, namespaces, expiresAt } });
        if (expiresAt !== null && expiresAt <= Date.now())
          throw new FnError('invalid', '/expiresAt: is in the past.', { errors: [{ pointer: '/expiresAt', detail: 'is in the past' }] });
        const created = await tenants.createToken(c.get('principal'), request);
        note(c, { subject: created.id });
        return c.json(created, 201);
      },
    )
    .add(
      {
        method: 'delete',
        path: '/v1/tokens/{id}',
        operationId: 'revokeToken',
        summary: 'Revoke a token, for good; answered when the gateways have heard',
        access: { namespace: 'filtered', scope: 'admin', absent: 'token' },
        audit: { action: 'token.revoke', subject: 'id' },
        request: { params: TokenPath },
        responses: responses({ 200: response('The token; the first time that it was revoked counts.', 'TokenView') }),
      },
      async (c) => {
        const { id } = checkedPath(c, TokenPath);
        const token = await tenants.revokeToken(c.get('principal'), id);
        note(c, { ...oneOf(token.namespaces), detail: { name: token.name } });
        return c.json(token);
      },
    );
}
