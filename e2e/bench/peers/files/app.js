'use strict';
// The server behind pm2. SUBJECT_FAULT names a file with what is wrong with the next generation.
const fs = require('node:fs');
const http = require('node:http');

let fault = '';
try { fault = fs.readFileSync(process.env.SUBJECT_FAULT, 'utf8').trim(); } catch { /* none */ }
let wedged = false;
let stopping = false;
if (fault === 'exit') process.exit(3);
if (fault === 'crash') setTimeout(() => process.exit(70), 1500);
if (fault === 'wedge') setTimeout(() => { wedged = true; }, 1500);
const server = http.createServer((req, res) => {
  if (wedged) return;
  if (stopping) res.setHeader('Connection', 'close');
  const body = `pid=${process.pid}\n`;
  res.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': body.length });
  res.end(body);
});
const begin = () => server.listen(Number(process.env.PORT), '127.0.0.1');
if (fault === 'never') setInterval(() => {}, 60000);
else if (fault === 'slow') setTimeout(begin, 250);
else begin();
// pm2 says SIGINT, holdfast SIGTERM. Both let what was begun finish.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    stopping = true;
    server.close(() => process.exit(0));
    server.closeIdleConnections();
    setInterval(() => server.closeIdleConnections(), 20);
  });
}
