// A client that asks an origin.js for everything that HTTP may say, and prints what came of each row, as one object of JSON.
//
// Usage: node asker.js http1|http2 URL ROW...
'use strict';

const http = require('http');
const http2 = require('http2');

const [, , version, base, ...rows] = process.argv;
const LARGE = 256 * 1024;
const url = new URL(base);
let session;

// { method, path, headers, body: [...], trailers, wait }: what came, as { before, status, headers, text, trailers, error }.
function ask1(said) {
  return new Promise((done) => {
    const came = { before: [], text: '' };
    const { method = 'GET', path, headers = {} } = said;
    const request = http.request({ host: url.hostname, port: url.port, method, path, headers, maxHeaderSize: LARGE, agent: false });
    const finish = (error) => done({ ...came, error: error && (error.code || error.message) });
    request.on('information', ({ statusCode }) => came.before.push(statusCode));
    request.on('error', finish);
    request.on('upgrade', (response, socket, head) => {
      Object.assign(came, { status: response.statusCode, headers: response.headers });
      talk(socket, came, head, finish);
    });
    request.on('response', (response) => {
      Object.assign(came, { status: response.statusCode, headers: response.headers });
      response.on('data', (piece) => (came.text += piece));
      response.on('error', finish);
      response.on('end', () => finish(Object.assign(came, { trailers: response.trailers }) && undefined));
    });
    send(request, said);
  });
}

function ask2(said) {
  return new Promise((done) => {
    const came = { before: [], text: '' };
    const { method = 'GET', path, headers = {} } = said;
    const plain = said.plain ? {} : { ':scheme': 'http', ':path': path };
    const whole = { ':method': method, ':authority': url.host, ...plain, ...headers };
    const request = session.request(whole, { endStream: !said.body && method !== 'CONNECT', waitForTrailers: Boolean(said.trailers) });
    const finish = (error) => done({ ...came, error: error && (error.code || error.message) });
    request.on('headers', (headers) => came.before.push(headers[':status']));
    request.on('response', (headers) => {
      Object.assign(came, { status: headers[':status'], headers });
      if (headers[':status'] === 200 && said.protocol) talk(request, came, '', finish);
    });
    request.on('wantTrailers', () => request.sendTrailers(said.trailers));
    request.on('trailers', (trailers) => Object.assign(came, { trailers }));
    if (!said.protocol) request.on('data', (piece) => (came.text += piece));
    request.on('error', finish);
    request.on('close', () => finish());
    if (!said.protocol || said.plain) request.on('end', () => setImmediate(finish));
    request.resume();
    send(request, said);
  });
}

function send(request, { body, trailers, wait, protocol }) {
  if (wait) return request.on('continue', () => request.end(body[0]));
  if (protocol) return request.end && version === 'http1' ? request.end() : undefined;
  for (const piece of body || []) request.write(piece);
  if (trailers && version === 'http1') request.addTrailers(trailers);
  if (!body || body[body.length - 1] !== '') request.end();
}

// Says a word through the tunnel, and ends it when it has come back.
function talk(tunnel, came, head, finish) {
  const hear = (piece) => {
    came.text += piece;
    if (came.text.endsWith('word')) tunnel.end();
  };
  tunnel.on('data', hear);
  tunnel.on('end', () => finish());
  tunnel.on('error', finish);
  hear(head);
  tunnel.write('word');
}

const ask = (said) => (version === 'http1' ? ask1(said) : ask2(said));
const seen = (came) => JSON.parse(came.text);
const websocket = (path) =>
  version === 'http1'
    ? { path, protocol: true, headers: { connection: 'upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' } }
    : { path, protocol: true, method: 'CONNECT', headers: { ':protocol': 'websocket', 'sec-websocket-version': '13' } };
const expecting = (path) => ({ method: 'POST', path, wait: true, body: ['12345'], headers: { expect: '100-continue' } });

const table = {
  hints: async () => {
    const { before, status, text, trailers } = await ask({ path: '/hints', headers: { te: 'trailers' } });
    return [...before, status, text, trailers['x-sum']].join(' ');
  },
  expected: async () => {
    const { before, status, text } = await ask(expecting('/expect/yes'));
    return [...before.filter((code) => code !== 100), status, text].join(' ');
  },
  unwanted: async () => {
    const { before, status, text } = await ask(expecting('/expect/no'));
    return [...before, status, text].join(' ');
  },
  upload: async () => {
    const said = { method: 'POST', path: '/echo', body: ['abc', 'defg'], trailers: { 'x-end': '1' } };
    const headers = version === 'http1' ? { trailer: 'x-end', 'transfer-encoding': 'chunked' } : { trailer: 'x-end' };
    const echo = seen(await ask({ ...said, headers }));
    return [echo.method, echo.bytes, echo.headers['content-length'] ?? 'no length', echo.trailers['x-end']].join(' ');
  },
  fields: async () => {
    const hop = version === 'http1' ? { connection: 'x-hop', 'x-hop': '1', 'keep-alive': '5' } : {};
    const echo = seen(await ask({ path: '/echo?q=1', headers: { cookie: ['a=1', 'b=2'], te: 'trailers', ...hop } }));
    return [echo.url, echo.headers.cookie, echo.headers.te, echo.headers['x-hop'] ?? 'no hop', echo.headers['keep-alive'] ?? 'none'].join(' ');
  },
  authority: async () => {
    const echo = seen(await ask({ path: '/echo' }));
    return String((echo.headers.host ?? echo.headers[':authority']) === url.host);
  },
  head: async () => {
    const { status, headers, text } = await ask({ method: 'HEAD', path: '/five' });
    return [status, headers['content-length'], `"${text}"`].join(' ');
  },
  empty: async () => {
    const said = [await ask({ path: '/204' }), await ask({ path: '/304' })];
    return said.map(({ status, headers, text }) => `${status} ${headers['content-length'] ?? 'no length'} "${text}"`).join(', ');
  },
  asterisk: async () => {
    const echo = seen(await ask({ method: 'OPTIONS', path: '*' }));
    return `${echo.method} ${echo.url}`;
  },
  early: async () => {
    const { status, text } = await ask({ method: 'POST', path: '/early', body: ['x'.repeat(1000), ''], headers: version === 'http1' ? { 'content-length': '100000' } : {} });
    return `${status} ${text}`;
  },
  cut: async () => {
    const { status, text, error } = await ask({ path: '/cut' });
    return `${status} ${text} ${error ? 'broken' : 'whole'}`;
  },
  tunnel: async () => {
    const { status, text, headers } = await ask(websocket('/chat'));
    const accept = headers['sec-websocket-accept'] ?? 'no accept';
    return [status, text, accept].join(' ');
  },
  page: async () => {
    const { status, headers } = await ask(websocket('/page'));
    return [status, (headers && headers['weft-reason']) ?? ''].join(' ');
  },
  forbidden: async () => {
    const { status, headers } = await ask(websocket('/forbidden'));
    return [status, headers['weft-reason']].join(' ');
  },
  connect: async () => {
    const said = version === 'http1' ? { path: 'web:80' } : { plain: true, protocol: true };
    const { status, headers } = await ask({ method: 'CONNECT', ...said });
    return [status, headers && headers['weft-reason']].join(' ');
  },
  foreign: async () => {
    const { status, headers } = await ask({ method: 'CONNECT', path: '/', protocol: true, headers: { ':protocol': 'connect-udp' } });
    return [status, headers['weft-reason']].join(' ');
  },
  large: async () => {
    const long = 'x'.repeat(64 * 1024);
    const echo = seen(await ask({ path: '/echo', headers: { 'x-long': long } }));
    return String(echo.headers['x-long'].length);
  },
  larger: async () => {
    const { status, headers } = await ask({ path: '/echo', headers: { 'x-long': 'x'.repeat(100 * 1024) } });
    return [status, headers['weft-reason']].join(' ');
  },
};
// gRPC calls, and the same by an ordinary client: what they are told by whoever refuses them.
for (const kind of ['grpc', 'plain']) {
  for (const path of ['/forbidden', '/slow', '/none', '/unrouted']) {
    table[`${kind}${path}`] = async () => {
      const type = kind === 'grpc' ? 'application/grpc' : 'application/json';
      const { status, headers } = await ask({ method: 'POST', path, headers: { 'content-type': type, te: 'trailers' }, body: ['12345'] });
      const message = headers['grpc-message'] ? headers['grpc-message'].split(':')[0] : '-';
      return [status, headers['grpc-status'] ?? '-', message, headers['weft-reason']].join(' ');
    };
  }
}

async function main() {
  if (version === 'http2') {
    session = http2.connect(url.origin, { maxSendHeaderBlockLength: LARGE, settings: { maxHeaderListSize: LARGE } });
    await new Promise((done) => session.once('remoteSettings', done));
  }
  const outcomes = {};
  for (const row of rows) {
    const late = new Promise((done) => setTimeout(() => done('nothing came'), 8000).unref());
    outcomes[row] = await Promise.race([table[row]().catch((error) => `failed: ${error.message}`), late]);
  }
  console.log(JSON.stringify(outcomes));
  process.exit(0);
}

main();
