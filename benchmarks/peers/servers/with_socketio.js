// A channel of socket.io: everyone connected hears what is posted. Keeps nothing.
const http = require('http');
const { Server } = require('socket.io');

const server = http.createServer((request, response) => {
  if (request.url !== '/publish') return;
  let text = '';
  request.on('data', (part) => { text += part; });
  request.on('end', () => {
    io.emit('message', JSON.parse(text));
    response.writeHead(202, { 'content-length': 0 });
    response.end();
  });
});
const io = new Server(server);
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 });
