'use strict';
// The first program of Node's documentation: nothing is said about its end, so SIGTERM kills it.
const { createServer } = require('node:http');

createServer((req, res) => {
  res.end(`generation=${process.env.HOLDFAST_GENERATION || 0}\n`);
}).listen(%PORT, '127.0.0.1');
