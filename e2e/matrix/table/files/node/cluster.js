'use strict';
// Node's cluster, as its documentation has it: the primary listens and hands the connections to two workers.
const cluster = require('node:cluster');
const http = require('node:http');

if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
  process.on('SIGTERM', () => {
    for (const worker of Object.values(cluster.workers)) worker.send('stop');
  });
} else {
  let stopping = false;
  const server = http.createServer((req, res) => {
    if (stopping) res.setHeader('Connection', 'close');
    res.end(`generation=${process.env.HOLDFAST_GENERATION || 0}\n`);
  });
  server.listen(%PORT, '127.0.0.1');
  process.on('message', () => {
    stopping = true;
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}
