/** Dead letters of a function: those that failed for the last time, and what is done with them. */
import { DeadLetterQuery, DeadLetterSelection } from '#contract/events.ts';
import { note } from './audit-trail.ts';
import { type ApiContext, type ApiDependencies, Router } from './env.ts';
import { checkedJson, checkedPath, checkedQuery } from './input.ts';
import { EventPath, FunctionPath, jsonContent, response, responses } from './schemas.ts';

const path = '/v1/namespaces/{namespace}/functions/{name}/dead-letters';

/** What the audit log has of a redrive or a purge: which, and how many there were. */
function noteSelection(c: ApiContext, selection: DeadLetterSelection, count: number): void {
  const which = 'ids' in selection ? { asked: selection.ids.length } : { all: true, trigger: selection.trigger ?? null };
  note(c, { detail: { ...which, count }, ...(count === 0 ? { unchanged: true } : {}) });
}

export function deadLetterRoutes(dependencies: ApiDependencies): Router {
  const { events, limits } = dependencies;
  return new Router(dependencies)
    .add(
      {
        method: 'get',
        path,
        operationId: 'listDeadLetters',
        summary: 'Dead letters, the newest first: when and why they failed, without what was sent',
        access: { namespace: 'path', scope: 'read', absent: 'function' },
        request: { params: FunctionPath, query: DeadLetterQuery },
        responses: responses({ 200: response('A page of them; before=ID gives the next.', 'DeadLetterList') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        return c.json(await events.listDeadLetters(namespace, name, checkedQuery(c, DeadLetterQuery)));
      },
    )
    .add(
      {
        method: 'get',
        path: `${path}/{id}`,
        operationId: 'getDeadLetter',
        summary: 'One dead letter whole: headers and body are user data, so it takes the scope deploy',
        access: { namespace: 'path', scope: 'deploy', absent: 'dead letter' },
        request: { params: EventPath },
        responses: responses({ 200: response('The dead letter.', 'DeadLetterDetail') }),
      },
      async (c) => {
        const { namespace, name, id } = checkedPath(c, EventPath);
        return c.json(await events.getDeadLetter(namespace, name, id));
      },
    )
    .add(
      {
        method: 'post',
        path: `${path}/redrive`,
        operationId: 'redriveDeadLetters',
        summary: 'Try dead letters again, with all their attempts before them',
        access: { namespace: 'path', scope: 'deploy', absent: 'function' },
        audit: { action: 'dead-letter.redrive', subject: 'name' },
        request: { params: FunctionPath, body: { required: true, content: jsonContent('DeadLetterSelection') } },
        responses: responses({ 200: response('How many there were.', 'DeadLetterCount') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        const selection = await checkedJson(c, DeadLetterSelection, limits);
        const { count } = await events.redrive(namespace, name, selection);
        noteSelection(c, selection, count);
        return c.json({ count });
      },
    )
    .add(
      {
        method: 'post',
        path: `${path}/purge`,
        operationId: 'purgeDeadLetters',
        summary: 'Remove dead letters for good',
        access: { namespace: 'path', scope: 'deploy', absent: 'function' },
        audit: { action: 'dead-letter.purge', subject: 'name' },
        request: { params: FunctionPath, body: { required: true, content: jsonContent('DeadLetterSelection') } },
        responses: responses({ 200: response('How many there were.', 'DeadLetterCount') }),
      },
      async (c) => {
        const { namespace, name } = checkedPath(c, FunctionPath);
        const selection = await checkedJson(c, DeadLetterSelection, limits);
        const { count } = await events.purge(namespace, name, selection);
        noteSelection(c, selection, count);
        return c.json({ count });
      },
    );
}
