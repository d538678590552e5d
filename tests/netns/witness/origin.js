// A server of HTTP/1 on one port and of HTTP/2 on another, which answers each path with what a client of a mesh relies on.
//
// Usage: node origin.js HTTP1-PORT HTTP2-PORT
'use strict';

const crypto = require('crypto');
const http = require('http');
const http2 = require('http2');

const [, , one, two] = process.argv;
const LARGE = 256 * 1024;

function read(request, then) {
  let bytes = 0;
  request.on('data', (piece) => (bytes += piece.length));
  request.on('end', () => then(bytes));
  request.on('error', () => {});
}

const paths = {
  '/hints': (request, response) => {
    hint(response, '</a>; rel=preload');
    hint(response, '</b>; rel=preload');
    response.setHeader('trailer', 'x-sum');
    response.write('ok');
    response.addTrailers({ 'x-sum': '1' });
    response.end();
  },
  '/echo': (request, response) =>
    read(request, (bytes) => {
      const { method, url, httpVersion, headers, trailers } = request;
      response.end(JSON.stringify({ method, url, httpVersion, headers, trailers, bytes }));
    }),
  '/five': (request, response) => {
    response.setHeader('content-length', '5');
    response.end(request.method === 'HEAD' ? undefined : 'hello');
  },
  '/204': (request, response) => response.writeHead(204).end(),
  '/304': (request, response) => response.writeHead(304, { etag: '"x"' }).end(),
  // Nothing of the body is read.
  '/early': (request, response) => response.writeHead(413, { 'content-length': '2' }).end('no'),
  '/cut': (request, response) => {
    response.write('half');
    setTimeout(() => (response.stream ? response.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR) : response.destroy()), 50);
  },
  '/slow': () => {},
  // Not an upgrade: as a page.
  '/page': (request, response) => response.end('page'),
};

function hint(response, link) {
  if (response.stream) response.stream.additionalHeaders({ ':status': 103, link });
  else response.writeEarlyHints({ link });
}

function answer(request, response) {
  const path = request.url.split('?')[0];
  (paths[path] || paths['/echo'])(request, response);
}

// The client waits to be told.
function decide(request, response) {
  if (request.url === '/expect/no') return response.writeHead(417, { 'content-length': '2' }).end('no');
  response.writeContinue();
  read(request, (bytes) => response.end(String(bytes)));
}

const first = http.createServer({ maxHeaderSize: LARGE }, answer);
first.on('checkContinue', decide);
first.on('upgrade', (request, socket, head) => {
  if (request.url === '/page') return socket.end('HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage');
  const key = `${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  const accept = crypto.createHash('sha1').update(key).digest('base64');
  const lines = ['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: websocket', `Sec-WebSocket-Accept: ${accept}`];
  socket.on('error', () => {});
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  socket.write(`${request.method} ${request.url} `);
  socket.write(head);
  socket.pipe(socket);
});
first.listen(Number(one));

const settings = { enableConnectProtocol: true, maxHeaderListSize: LARGE };
const second = http2.createServer({ settings, maxSendHeaderBlockLength: LARGE }, answer);
second.on('checkContinue', decide);
second.on('connect', (request, { stream }) => {
  stream.on('error', () => {});
  stream.respond({ ':status': 200 });
  stream.write(`${request.method} ${request.url} `);
  stream.pipe(stream);
});
second.listen(Number(two));
