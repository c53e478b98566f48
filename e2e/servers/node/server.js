'use strict';
// An HTTP server on the sockets of LISTEN_FDS (or, without them, on the address PORT) that answers with its generation.
//
//   node server.js
//
//   /           "generation=N pid=P"
//   /slow?ms=M  the same after M milliseconds
//   /healthz    "ok"
//
// On SIGTERM it closes its listeners and idle connections, answers what it has begun, and exits.

const http = require('node:http');

const generation = process.env.HOLDFAST_GENERATION || '0';
const given = Number(process.env.LISTEN_FDS || 0);
let stopping = false;

const servers = [];
for (let i = 0; i < Math.max(given, 1); i++) {
  const server = http.createServer((req, res) => {
    const url = new URL(req.url, 'http://localhost');
    const body = url.pathname === '/healthz' ? 'ok\n' : `generation=${generation} pid=${process.pid}\n`;
    const answer = () => {
      // Said while stopping, so that a client does not send its next request on a connection about to close.
      if (stopping) res.setHeader('Connection', 'close');
      res.writeHead(200, {
        'Content-Type': 'text/plain',
        'Content-Length': Buffer.byteLength(body),
        'X-Generation': generation,
      });
      res.end(body);
    };
    if (url.pathname === '/slow') setTimeout(answer, Math.min(Number(url.searchParams.get('ms')), 60000));
    else answer();
  });
  server.listen(given > 0 ? { fd: 3 + i } : { host: '127.0.0.1', port: Number(process.env.PORT || 8080) });
  servers.push(server);
}

process.on('SIGTERM', () => {
  stopping = true;
  for (const server of servers) {
    server.close();
    server.closeIdleConnections();
  }
});
