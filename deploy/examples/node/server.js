'use strict';
// A Node application that reads its configuration at its start and at no other time.
//
//   node server.js [--check] config.json
//
// --check only says whether it could be started with this configuration.

const http = require('node:http');
const fs = require('node:fs');

const path = process.argv.at(-1);
const config = JSON.parse(fs.readFileSync(path, 'utf8'));
if (typeof config.greeting !== 'string' || !Number.isInteger(config.version)) {
  console.error(`${path}: want {"greeting": "text", "version": 1}`);
  process.exit(1);
}
if (process.argv[2] === '--check') process.exit(0);

const server = http.createServer((req, res) => {
  res.setHeader('X-Generation', process.env.HOLDFAST_GENERATION ?? '0');
  res.end(req.url === '/healthz' ? 'ok\n' : `${config.greeting}, version=${config.version}\n`);
});
server.listen(8080);

// Answer what has been begun, and go.
process.on('SIGTERM', () => {
  server.close();
  server.closeIdleConnections();
});
