/** Invocations that are answered later: what became of them, and calling them off. Clients ask the gateway; this is for operators. */
import { InvocationQuery } from '#contract/events.ts';
import { type ApiDependencies, Router } from './env.ts';
import { checkedPath, checkedQuery } from './input.ts';
import { EventPath, FunctionPath, response, responses } from './schemas.ts';

const path = '/v1/namespaces/{namespace}/functions/{name}/invocations';

export function invocationRoutes(dependencies: ApiDependencies): Router {
  const { events } = dependencies;
  return new Router(dependencies)
    .add(
      {
        method: 'get',
        path,
        operationId: 'listInvocations',
        summary: 'Invocations that are answered later, the newest first: those that wait or run, and those over that are still kept',
        access: { namespace: 'path', scope: 'read', absent: 'function' },
        request: { params: FunctionPath, query: InvocationQuery },
        responses: responses({ 200: response('Their states.', 'InvocationList') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        return c.json(await events.listInvocations(namespace, name, checkedQuery(c, InvocationQuery)));
      },
    )
    .add(
      {
        method: 'get',
        path: `${path}/{id}`,
        operationId: 'getInvocation',
        summary: 'State of one invocation',
        access: { namespace: 'path', scope: 'read', absent: 'invocation' },
        request: { params: EventPath },
        responses: responses({ 200: response('The invocation.', 'InvocationView') }),
      },
      async (c) => {
        const { namespace, name, id } = checkedPath(c, EventPath);
        return c.json(await events.getInvocation(namespace, name, id));
      },
    )
    .add(
      {
        method: 'get',
        path: `${path}/{id}/result`,
        operationId: 'getInvocationResult',
        summary: 'What the function answered; it is user data, so it takes the scope deploy',
        access: { namespace: 'path', scope: 'deploy', absent: 'invocation' },
        request: { params: EventPath },
        responses: responses({ 200: response('Status, headers and body.', 'InvocationResult') }),
      },
      async (c) => {
        const { namespace, name, id } = checkedPath(c, EventPath);
        return c.json(await events.getResult(namespace, name, id));
      },
    )
    .add(
      {
        method: 'delete',
        path: `${path}/{id}`,
        operationId: 'cancelInvocation',
        summary: 'Call an invocation off; one that runs is abandoned. 409 where it is over',
        access: { namespace: 'path', scope: 'deploy', absent: 'invocation' },
        audit: { action: 'invocation.cancel', subject: 'id' },
        request: { params: EventPath },
        responses: responses({ 200: response('The invocation after it.', 'InvocationView') }),
      },
      async (c) => {
        const { namespace, name, id } = checkedPath(c, EventPath);
        return c.json(await events.cancelInvocation(namespace, name, id));
      },
    )
    .add(
      {
        method: 'get',
        path: '/v1/namespaces/{namespace}/functions/{name}/backlog',
        operationId: 'getBacklog',
        summary: 'How many events of a function wait, run and are dead',
        access: { namespace: 'path', scope: 'read', absent: 'function' },
        request: { params: FunctionPath },
        responses: responses({ 200: response('The numbers.', 'EventBacklog') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        return c.json(await events.backlog(namespace, name));
      },
    );
}
