/** A Hono app is a function as it is: it has fetch. */
import { Hono } from 'hono';

const app = new Hono();

app.get('/', (c) => c.text('Hono on fn\n'));
app.get('/users/:id', (c) => c.json({ id: c.req.param('id') }));
app.post('/echo', async (c) => c.json({ echo: await c.req.json() }));

export default app;
