/** A room where everybody hears everybody, with the ws package: it opens no port, its sockets come from the platform. */
import { createServer } from 'node:http';
import { type WebSocket, WebSocketServer } from 'ws';

/** Bytes of one message, and people in one room. */
const MAX_MESSAGE_BYTES = 4_096;
const MAX_PEOPLE = 100;

const server = createServer((_request, response) => {
  response.setHeader('content-type', 'text/plain; charset=utf-8');
  response.end('Connect with a WebSocket.\n');
});
const room = new WebSocketServer({ server, maxPayload: MAX_MESSAGE_BYTES });

room.on('connection', (socket) => {
  if (room.clients.size > MAX_PEOPLE) {
    socket.close(1013, 'the room is full');
    return;
  }
  socket.send(`welcome, you are one of ${room.clients.size}`);
  socket.on('message', (message) => tell(message.toString()));
  socket.on('error', (error) => console.warn(`a socket failed: ${error.message}`));
});

/** Rooms are as wide as an instance: with `max: 1` all are in the same one. */
function tell(text: string): void {
  for (const client of room.clients as Set<WebSocket>) if (client.readyState === client.OPEN) client.send(text);
}

server.listen(process.env.PORT);
