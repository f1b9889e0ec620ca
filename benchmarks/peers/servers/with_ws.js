// A channel and a push endpoint on Node's own HTTP server and ws. Keeps nothing.
const http = require('http');
const { WebSocketServer } = require('ws');

let accepted = 0;
const server = http.createServer((request, response) => {
  let text = '';
  request.on('data', (part) => { text += part; });
  request.on('end', () => {
    if (request.url === '/publish') {
      for (const client of sockets.clients) client.send(text);
      response.writeHead(202, { 'content-length': 0 });
      response.end();
      return;
    }
    const push = JSON.parse(text);
    const isPush = Number.isInteger(push.user_id) && typeof push.template === 'string' && typeof push.payload === 'object';
    const answer = isPush ? `{"id":"${++accepted}"}` : '{}';
    response.writeHead(isPush ? 202 : 422, { 'content-type': 'application/json', 'content-length': answer.length });
    response.end(answer);
  });
});
const sockets = new WebSocketServer({ server });
sockets.on('connection', (socket) => socket.send('ready'));
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 });
