/** An Express app as it is. It says listen, and no port is opened: the platform hands it the requests. */
import express from 'express';

const app = express();
app.use(express.json());

app.get('/', (request, response) => {
  response.send('Express on fn\n');
});
app.get('/users/:id', (request, response) => {
  response.json({ id: request.params.id });
});
app.post('/echo', (request, response) => {
  response.json({ echo: request.body });
});

app.listen(process.env.PORT ?? 3000);
