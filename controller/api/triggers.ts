/** Triggers of functions: what there is and how each does, adding, pausing, removing. */
import { FnError } from '#contract/errors.ts';
import { PatchTriggerRequest, Trigger, type TriggerList } from '#contract/trigger.ts';
import { note } from './audit-trail.ts';
import { type ApiDependencies, Router } from './env.ts';
import { checkedJson, checkedPath } from './input.ts';
import { FunctionPath, jsonContent, NamespacePath, response, responses, TriggerPath } from './schemas.ts';
import { checkTriggers } from './trigger-faults.ts';

const path = '/v1/namespaces/{namespace}/functions/{name}/triggers';

export function triggerRoutes(dependencies: ApiDependencies): Router {
  const router = new Router(dependencies);
  lookingRoutes(router, dependencies);
  changingRoutes(router, dependencies);
  return router;
}

function lookingRoutes(router: Router, { events }: ApiDependencies): void {
  router
    .add(
      {
        method: 'get',
        path: '/v1/namespaces/{namespace}/triggers',
        operationId: 'listNamespaceTriggers',
        summary: 'The triggers of all functions of a namespace, with how each does',
        access: { namespace: 'path', scope: 'read', absent: 'namespace' },
        request: { params: NamespacePath },
        responses: responses({ 200: response('By function, then name.', 'TriggerList') }),
      },
      async (c) => {
        const { namespace } = checkedPath(c, NamespacePath);
        return c.json({ triggers: await events.listTriggers(namespace, null) } satisfies TriggerList);
      },
    )
    .add(
      {
        method: 'get',
        path,
        operationId: 'listTriggers',
        summary: 'The triggers of a function, with how each does',
        access: { namespace: 'path', scope: 'read', absent: 'function' },
        request: { params: FunctionPath },
        responses: responses({ 200: response('By name.', 'TriggerList') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        return c.json({ triggers: await events.listTriggers(namespace, name) } satisfies TriggerList);
      },
    )
    .add(
      {
        method: 'get',
        path: `${path}/{trigger}`,
        operationId: 'getTrigger',
        summary: 'One trigger; passwords stand in it as references to secrets, never as values',
        access: { namespace: 'path', scope: 'read', absent: 'trigger' },
        request: { params: TriggerPath },
        responses: responses({ 200: response('The trigger.', 'TriggerView') }),
      },
      async (c) => {
        const { namespace, name, trigger } = checkedPath(c, TriggerPath);
        return c.json(await events.getTrigger(namespace, name, trigger));
      },
    );
}

function changingRoutes(router: Router, { events, limits }: ApiDependencies): void {
  router
    .add(
      {
        method: 'put',
        path: `${path}/{trigger}`,
        operationId: 'putTrigger',
        summary: 'Add a trigger to a function, or replace that of its name',
        access: { namespace: 'path', scope: 'deploy', absent: 'function' },
        audit: { action: 'trigger.set', subject: 'trigger' },
        request: { params: TriggerPath, body: { required: true, content: jsonContent('Trigger') } },
        responses: responses({ 200: response('The trigger after it.', 'TriggerView') }),
      },
      async (c) => {
        const { namespace, name, trigger } = checkedPath(c, TriggerPath);
        const wanted = await checkedJson(c, Trigger, limits);
        note(c, { detail: { function: name, type: wanted.type, enabled: wanted.enabled } });
        if (wanted.name !== trigger)
          throw new FnError('invalid', `/name: it is ${wanted.name} here and ${trigger} in the path.`, {
            errors: [{ pointer: '/name', detail: 'must be the name in the path' }],
          });
        checkTriggers([wanted], () => []);
        return c.json(await events.putTrigger(namespace, name, wanted));
      },
    )
    .add(
      {
        method: 'patch',
        path: `${path}/{trigger}`,
        operationId: 'enableTrigger',
        summary: 'Pause a trigger, or resume it; what is in flight ends',
        access: { namespace: 'path', scope: 'deploy', absent: 'trigger' },
        audit: { action: 'trigger.enable', subject: 'trigger' },
        request: { params: TriggerPath, body: { required: true, content: jsonContent('PatchTriggerRequest') } },
        responses: responses({ 200: response('The trigger after it.', 'TriggerView') }),
      },
      async (c) => {
        const { namespace, name, trigger } = checkedPath(c, TriggerPath);
        const { enabled } = await checkedJson(c, PatchTriggerRequest, limits);
        note(c, { detail: { function: name, enabled } });
        return c.json(await events.enableTrigger(namespace, name, trigger, enabled));
      },
    )
    .add(
      {
        method: 'delete',
        path: `${path}/{trigger}`,
        operationId: 'removeTrigger',
        summary: 'Remove a trigger; what is in flight ends, what the broker has stays there',
        access: { namespace: 'path', scope: 'deploy', absent: 'trigger' },
        audit: { action: 'trigger.remove', subject: 'trigger' },
        request: { params: TriggerPath },
        responses: responses({ 204: { description: 'It takes nothing more.' } }),
      },
      async (c) => {
        const { namespace, name, trigger } = checkedPath(c, TriggerPath);
        note(c, { detail: { function: name } });
        await events.removeTrigger(namespace, name, trigger);
        return c.body(null, 204);
      },
    );
}
