/** A Fastify app as it is, with its schema checks. */
import Fastify from 'fastify';

const app = Fastify({ logger: false });

app.get('/', async () => 'Fastify on fn\n');
app.get<{ Params: { id: string } }>('/users/:id', async ({ params }) => ({ id: params.id }));
app.post<{ Body: { name: string } }>(
  '/users',
  { schema: { body: { type: 'object', required: ['name'], properties: { name: { type: 'string' } } } } },
  async ({ body }, reply) => reply.code(201).send({ created: body.name }),
);

await app.listen({ port: 3000 });
