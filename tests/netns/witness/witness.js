// Writes down every request exactly as Node's HTTP server gives it to an application, one line of JSON each.
//
// Every letter of a line is one byte (Latin-1), as Node itself reads heads. A line is written before the answer leaves, and
// the answer's header x-seen names it. Usage: node witness.js FILE PORT...
'use strict';

const fs = require('fs');
const http = require('http');

const [, , file, ...ports] = process.argv;
const lines = fs.openSync(file, 'a');
let connections = 0;

// Its connection, and its number there.
function name(request) {
  const socket = request.socket;
  socket.requests = (socket.requests || 0) + 1;
  socket.number = socket.number || (connections += 1);
  return `${socket.number}.${socket.requests}`;
}

function note(request, port, seen, body, complete) {
  const line = {
    port: Number(port),
    seen,
    method: request.method,
    target: request.url,
    version: request.httpVersion,
    host: request.headers.host ?? '',
    headers: pairs(request.rawHeaders),
    body,
    complete,
    trailers: pairs(request.rawTrailers),
  };
  fs.writeSync(lines, Buffer.from(`${JSON.stringify(line)}\n`, 'latin1'));
}

function pairs(raw) {
  return raw.flatMap((name, at) => (at % 2 === 0 ? [[name, raw[at + 1]]] : []));
}

function serve(port) {
  const server = http.createServer((request, response) => {
    const seen = name(request);
    const pieces = [];
    let noted = false;
    const finish = (complete) => {
      if (noted) return;
      noted = true;
      note(request, port, seen, Buffer.concat(pieces).toString('latin1'), complete);
      response.writeHead(200, { 'x-seen': seen });
      response.end(request.method === 'HEAD' ? undefined : 'seen\n');
    };
    request.on('data', (piece) => pieces.push(piece));
    request.on('end', () => finish(true));
    request.on('close', () => finish(request.complete));
    request.on('error', () => finish(false));
  });
  // A tunnel is as good as any other request to somebody who writes down.
  server.on('connect', (request, socket) => {
    const seen = name(request);
    note(request, port, seen, '', true);
    socket.end(`HTTP/1.1 501 Not Implemented\r\nx-seen: ${seen}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`);
  });
  // A client that has said everything is answered all the same.
  server.httpAllowHalfOpen = true;
  server.keepAliveTimeout = 600_000;
  server.requestTimeout = 0;
  server.listen(Number(port), '0.0.0.0');
}

ports.forEach(serve);
